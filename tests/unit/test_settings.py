"""Each setting has one name as a flag, environment variable and file entry, in this order of precedence."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from sefar_serve.settings import Settings, SettingsError, misspelled_variables, read_settings, shipped_model


def test_flags_override_the_environment_and_the_environment_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "sefar.toml"
    config.write_text("max_batch = 2\nmax_queue = 3\nport = 4\n")
    monkeypatch.setenv("SEFAR_CONFIG", str(config))
    monkeypatch.setenv("SEFAR_MAX_QUEUE", "30")
    monkeypatch.setenv("SEFAR_PORT", "40")
    settings = Settings(_cli_parse_args=["--port", "400"])
    assert (settings.max_batch, settings.max_queue, settings.port) == (2, 30, 400)


def test_the_error_for_a_missing_config_file_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEFAR_CONFIG", "/no/such.toml")
    with pytest.raises(FileNotFoundError, match=r"/no/such\.toml"):
        Settings()


def test_keys_are_comma_separated_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEFAR_API_KEYS", "secret-1, secret-2,")
    settings = Settings()
    assert [key.get_secret_value() for key in settings.api_keys] == ["secret-1", "secret-2"]
    assert "secret-1" not in repr(settings)


@pytest.mark.parametrize("wrong", [{"max_batch": 0}, {"port": 70000}, {"device": "tpu"}, {"max_bach": 2}])
def test_impossible_values_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Settings(**wrong)


@pytest.mark.parametrize(
    ("given", "prefix"),
    [("", ""), ("/", ""), ("/sefar", "/sefar"), ("/sefar/", "/sefar"), ("/a-1/b.c_~/", "/a-1/b.c_~")],
)
def test_a_root_path_starts_with_a_slash_and_does_not_end_with_one(given: str, prefix: str) -> None:
    assert Settings(root_path=given).root_path == prefix


@pytest.mark.parametrize("wrong", ["foo", "sefar/", "http://x/y", "/a b", "//x", "/a//b", "/a?b", "/a\n", "/ä"])
def test_a_root_path_that_is_not_a_path_prefix_is_refused(wrong: str) -> None:
    with pytest.raises(ValidationError, match=r"is not a path prefix; start it with a slash .* e\.g\. /sefar"):
        Settings(root_path=wrong)


def test_origins_must_look_like_those_that_browsers_send(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEFAR_CORS_ORIGINS", "https://App.example.com, http://localhost:3000")
    assert Settings().cors_origins == ("https://app.example.com", "http://localhost:3000")
    assert Settings(cors_origins="*").cors_origins == ("*",)
    assert Settings(cors_origins="https://app.example.com/").cors_origins == ("https://app.example.com",)
    for wrong in ("app.example.com", "https://app.example.com/page", "https://app.example.com//", "https://a b", "*/x"):
        with pytest.raises(ValidationError, match="is not an origin"):
            Settings(cors_origins=wrong)
    for wrong in ("https://*.example.com", "*.example.com", "http://localhost:*"):
        with pytest.raises(ValidationError, match=r"`\*` within an origin is not supported, list each origin"):
            Settings(cors_origins=wrong)


def test_an_invalid_value_is_named_as_in_the_source_that_it_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "sefar.toml"
    config.write_text("max_batch = 0\n")
    monkeypatch.setenv("SEFAR_CONFIG", str(config))
    monkeypatch.setenv("SEFAR_PORT", "http")
    with pytest.raises(SettingsError) as refused:
        read_settings(["--device", "tpu", "--cors-origins=example.com"], decode_threads=-1)
    assert set(str(refused.value).splitlines()) == {
        "--device: 'tpu' is not supported; use auto, cpu or cuda",
        "--cors-origins: 'example.com' is not an origin; use scheme://host, scheme://host:port or * for all",
        "decode_threads: must be at least 1, not -1",
        "SEFAR_PORT: 'http' is not a whole number",
        f"{config}: max_batch: must be at least 1, not 0",
    }


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("port = 1\nmodle = 'x'\n", "unknown setting 'modle'; did you mean model?"),
        ("port = 1\nport 2\n", "not valid TOML: .*line 2"),
    ],
)
def test_an_error_in_the_file_names_the_file(
    content: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "bad.toml"
    config.write_text(content)
    monkeypatch.setenv("SEFAR_CONFIG", str(config))
    with pytest.raises(SettingsError, match=rf"bad\.toml.*{problem}"):
        read_settings()


def test_misspelled_variables_are_found() -> None:
    given = (
        "SEFAR_PORTT",
        "SEFAR_PORT",
        "SEFAR_API_KEY",
        "SEFAR_CONFIG",
        "SEFAR_TRITON_HOME",
        "SEFAR_SOMETHING",
        "PORT",
    )
    assert misspelled_variables(dict.fromkeys(given, "1")) == {"SEFAR_PORTT": "SEFAR_PORT"}


def test_the_shipped_model_exists() -> None:
    assert shipped_model().is_file()
