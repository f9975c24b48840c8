from __future__ import annotations

import builtins
import logging
import socket
from typing import Any

import pytest
from pose_models import POSE, fake_estimators

from sefar_serve.api import server
from sefar_serve.api.server import AddressError, MisnamedKeysError, check_address, check_exposure
from sefar_serve.assemble import make_generator, make_served_generator
from sefar_serve.engine import FakeEngine
from sefar_serve.language import AdapterNotFoundError
from sefar_serve.pose import NotAnonymousError
from sefar_serve.settings import Settings, shipped_captioner


def test_captioner_none_loads_nothing() -> None:
    assert make_generator(Settings(captioner="none")) is None


def test_auto_loads_the_shipped_captioner() -> None:
    generator = make_generator(Settings())
    assert generator is not None
    assert generator.info.name == "sefar-synthgym-captioner"


def test_the_shipped_captioner_is_left_out_beside_a_model_of_ones_own(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert make_served_generator(Settings(), FakeEngine()) is None
    assert "train one for yours with `sefar adapter train`" in caplog.text
    assert not any(record.levelno >= logging.WARNING for record in caplog.records)
    named = Settings(captioner=str(shipped_captioner()))
    assert make_served_generator(named, FakeEngine()) is not None


def test_without_torch_auto_disables_captions_and_a_named_captioner_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = builtins.__import__

    def without_torch(name: str, *more: Any, **options: Any) -> Any:
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return real(name, *more, **options)

    for module in ("sefar_serve.mllm.generator", "sefar_serve.mllm.batch", "sefar_serve.mllm.prompt"):
        monkeypatch.delitem(__import__("sys").modules, module, raising=False)
    monkeypatch.setattr(builtins, "__import__", without_torch)
    with caplog.at_level(logging.INFO):
        assert make_generator(Settings()) is None
    assert "sefar-serve[mllm]" in caplog.text
    with pytest.raises(ModuleNotFoundError, match=r"sefar-serve\[mllm\]"):
        make_generator(Settings(captioner="some/adapter"))


def test_an_adapter_that_does_not_exist() -> None:
    with pytest.raises(AdapterNotFoundError, match="/no/such"):
        make_generator(Settings(captioner="/no/such"))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_no_warning_without_keys_on_loopback(host: str, caplog: pytest.LogCaptureFixture) -> None:
    check_exposure(Settings(host=host))
    assert not caplog.records


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "gateway.example.com"])
def test_a_warning_without_keys_on_other_addresses(host: str, caplog: pytest.LogCaptureFixture) -> None:
    check_exposure(Settings(host=host))
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert host in record.getMessage()
    assert "SEFAR_API_KEYS" in record.getMessage()
    caplog.clear()
    check_exposure(Settings(host=host, api_keys="k"))
    assert not caplog.records


def test_the_clients_key_variable_is_an_error_without_gateway_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEFAR_API_KEY", "secret")
    with pytest.raises(MisnamedKeysError, match="SEFAR_API_KEYS") as refused:
        check_exposure(Settings())
    assert "secret" not in str(refused.value)
    check_exposure(Settings(api_keys="secret"))
    monkeypatch.setenv("SEFAR_API_KEY", "")
    check_exposure(Settings())


@pytest.mark.parametrize(("given", "seconds"), [({}, 75), ({"keep_alive": 5}, 5)])
def test_keep_alive_is_passed_to_uvicorn(monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], seconds: int) -> None:
    passed: dict[str, Any] = {}
    monkeypatch.setattr(server, "configure_logging", lambda *_: None)
    monkeypatch.setattr(server, "make_engine", lambda _: FakeEngine())
    monkeypatch.setattr(server.uvicorn, "run", lambda _, **options: passed.update(options))
    server.serve(Settings(captioner="none", port=0, **given))
    assert passed["timeout_keep_alive"] == seconds


def test_an_address_that_cannot_be_used_is_named() -> None:
    with pytest.raises(AddressError, match=r"cannot listen on 999\.1\.1\.1:8000: `host` is not an address"):
        check_address("999.1.1.1", 8000)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(AddressError, match=rf"127\.0\.0\.1:{port}: the port is in use"):
            check_address("127.0.0.1", port)
    check_address("127.0.0.1", port)
    check_address("127.0.0.1", 0)


def test_a_misspelled_variable_is_a_warning(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("SEFAR_PORTT", "80")
    monkeypatch.setattr(server, "configure_logging", lambda *_: None)
    monkeypatch.setattr(server, "make_engine", lambda _: FakeEngine())
    monkeypatch.setattr(server.uvicorn, "run", lambda _, **options: None)
    server.serve(Settings(captioner="none", port=0))
    assert "SEFAR_PORTT, which is not a setting; did you mean SEFAR_PORT?" in caplog.text


def test_an_anonymous_gateway_says_so(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(server, "configure_logging", lambda *_: None)
    monkeypatch.setattr(server, "make_engine", lambda _: FakeEngine(POSE))
    monkeypatch.setattr(server, "make_estimators", lambda _: fake_estimators(anonymous=True))
    monkeypatch.setattr(server.uvicorn, "run", lambda _, **options: None)
    with caplog.at_level(logging.INFO):
        server.serve(Settings(captioner="none", port=0, anonymous=True))
    assert "anonymous: nothing of videos is kept but joints" in caplog.text


def test_an_anonymous_gateway_does_not_begin_to_serve_a_model_of_pictures() -> None:
    with pytest.raises(NotAnonymousError, match="anonymous: only models that see nothing but joints may run"):
        server.serve(Settings(anonymous=True, port=0, captioner="none"))
