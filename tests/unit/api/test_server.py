from __future__ import annotations

import builtins
import logging
from typing import Any

import pytest

from sefar_serve.assemble import make_generator
from sefar_serve.language import AdapterNotFoundError
from sefar_serve.settings import Settings


def test_no_captioner_is_wanted() -> None:
    assert make_generator(Settings(captioner="none")) is None


def test_the_shipped_one_where_it_can_run() -> None:
    generator = make_generator(Settings())
    assert generator is not None
    assert generator.info.name == "sefar-synthgym-captioner"


def test_none_without_torch_unless_it_was_asked_for(
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


def test_an_adapter_that_is_not_there() -> None:
    with pytest.raises(AdapterNotFoundError, match="/no/such"):
        make_generator(Settings(captioner="/no/such"))
