"""Keys in a file: hashes only, scopes, changes without a restart."""

from __future__ import annotations

import logging
from hashlib import sha256
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sefar_serve import keys as module
from sefar_serve.cli import app
from sefar_serve.keys import KeyRing, KeysError, add_key, read_keys, remove_key


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RELOAD_SECONDS", 0.0)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_the_file_has_only_hashes(file: Path) -> None:
    secret = add_key(file, "alice", ["infer", "jobs"])
    other = add_key(file, "bob", ["admin"])
    assert secret.startswith("sefar_") and len(secret) > 40 and secret != other
    text = file.read_text()
    assert secret not in text and other not in text
    assert f"alice infer,jobs {sha256(secret.encode()).hexdigest()}" in text
    assert file.stat().st_mode & 0o077 == 0
    remove_key(file, "alice")
    assert [key.name for key in read_keys(file)] == ["bob"]


@pytest.mark.parametrize(
    "line",
    ["alice infer", "alice all " + "0" * 64, "alice infer sefar_secret", "a b c d", "ali/ce infer " + "0" * 64],
)
def test_invalid_lines(file: Path, line: str) -> None:
    file.write_text(f"# comment\n\n{line}\n")
    with pytest.raises(KeysError, match="line 3") as error:
        KeyRing(file=file)
    assert "secret" not in str(error.value)


def test_names_are_used_once(file: Path) -> None:
    add_key(file, "alice", ["infer"])
    with pytest.raises(KeysError, match="already has"):
        add_key(file, "alice", ["infer"])
    with pytest.raises(KeysError, match="no key bob"):
        remove_key(file, "bob")
    for name, scopes in (("a b", ["infer"]), ("a", ["all"]), ("a", [""]), ("a", [])):
        with pytest.raises(KeysError):
            add_key(file, name, scopes)


def test_changes_are_seen_and_a_broken_file_changes_nothing(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = add_key(file, "alice", ["infer"])
    ring = KeyRing(["plain"], file)
    second = add_key(file, "bob", ["infer"])
    assert ring.find(first) and ring.find(second) and ring.find("plain")
    remove_key(file, "alice")
    assert ring.find(first) is None
    file.write_text("broken\n")
    assert ring.find(second) is not None
    file.unlink()
    assert ring.find(second) is not None
    assert caplog.text.count("the keys stay as they were") == 2


def test_scopes_over_http(gateway, file: Path, tmp_path: Path, dark_clip: bytes, caplog) -> None:
    made = {scope: add_key(file, scope, [scope]) for scope in ("infer", "jobs", "admin")}
    client = gateway(keys_file=file, api_keys="plain", jobs_dir=tmp_path / "jobs")
    needed = {"/v1/models": "infer", "/v1/jobs": "jobs", "/v1/jobs/job_1": "jobs", "/metrics": "admin", "/x": "infer"}
    for path, scope in needed.items():
        for name, key in {**made, "plain": "plain"}.items():
            answer = client.get(path, headers=bearer(key))
            if name in (scope, "admin", "plain"):
                assert answer.status_code in (200, 404), (path, name)
            else:
                assert (answer.status_code, answer.json()["error"]["code"]) == (403, "insufficient_scope"), (path, name)
        assert client.get(path, headers=bearer("sefar_wrong")).status_code == 401
        assert client.get(path).status_code == 401
    with caplog.at_level(logging.INFO, logger="sefar_serve.access"):
        assert client.post("/v1/classify", content=dark_clip, headers=bearer(made["infer"])).status_code == 200
    assert caplog.records[-1].key == "infer"
    late = add_key(file, "late", ["infer"])
    assert client.get("/v1/models", headers=bearer(late)).status_code == 200
    remove_key(file, "late")
    assert client.get("/v1/models", headers=bearer(late)).status_code == 401


def test_a_missing_file_is_an_error_at_the_start(gateway, file: Path) -> None:
    with pytest.raises(KeysError, match="sefar keys add"):
        gateway(keys_file=file).get("/healthz")


def test_commands(file: Path) -> None:
    def sefar(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["keys", *arguments], env={"SEFAR_KEYS_FILE": str(file)})
        assert done.exit_code == 0, done.output
        return done.stdout

    secret = sefar("add", "alice", "--scopes", "infer,jobs").splitlines()[-1]
    assert KeyRing(file=file).find(secret) is not None
    assert sefar("list") == "alice\tinfer,jobs\n"
    sefar("remove", "alice")
    assert sefar("list") == ""
