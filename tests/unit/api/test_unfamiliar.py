"""Clips that are unlike what the model knows: in labels, timelines, captions and answers."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from sefar_client import Classification
from sefar_serve.engine import FakeEngine
from sefar_serve.engine.fake import FAKE_METADATA
from sefar_serve.language import FakeGenerator
from sefar_serve.metadata import FamiliarityInfo

Gateway = Callable[..., TestClient]

KNOWN = FAKE_METADATA.model_copy(update={"familiarity": FamiliarityInfo(method="knn5", clips=9, held_out=9)})
BELOW = {"unfamiliar_below": 0.5}
"""The fake model finds bright clips familiar and dark ones not."""


def asked(clip: bytes, **options: object) -> dict[str, object]:
    url = "data:video/mp4;base64," + base64.b64encode(clip).decode()
    content = [{"type": "video_url", "video_url": {"url": url}}, {"type": "text", "text": "What is it?"}]
    return {"messages": [{"role": "user", "content": content}], **options}


def test_labels_and_windows_are_marked(gateway: Gateway, bright_clip: bytes, dark_clip: bytes) -> None:
    client = gateway(FakeEngine(KNOWN), **BELOW)
    files = [("file", bright_clip), ("file", dark_clip)]
    body = client.post("/v1/classify", files=files, data={"window": 0.4}).json()
    bright, dark = body["data"]
    assert bright["familiarity"] > 0.5 > dark["familiarity"]
    assert (bright["unfamiliar"], dark["unfamiliar"]) == (False, True)
    assert all(window["unfamiliar"] for window in dark["timeline"])
    assert dark["labels"]
    around = {key: body[key] for key in ("model", "version", "usage")}
    read = [Classification.model_validate(item | around) for item in body["data"]]
    assert [", unfamiliar" in str(item) for item in read] == [False, True]
    assert "unlike what the model knows" in read[1]._repr_html_()


@pytest.mark.parametrize(("engine", "below"), [(FakeEngine(), 1.0), (FakeEngine(KNOWN), 0.0)])
def test_nothing_is_marked_without_the_output_or_with_0(
    gateway: Gateway, dark_clip: bytes, engine: FakeEngine, below: float
) -> None:
    client = gateway(engine, FakeGenerator(), unfamiliar_below=below)
    [item] = client.post("/v1/classify", content=dark_clip).json()["data"]
    assert item["unfamiliar"] is False
    assert (item["familiarity"] is None) == (engine.metadata.familiarity is None)
    [caption] = client.post("/v1/captions", content=dark_clip).json()["data"]
    assert not caption["abstained"]


def test_captions_abstain_without_asking_the_language_model(
    gateway: Gateway, bright_clip: bytes, dark_clip: bytes
) -> None:
    generator = FakeGenerator("giant circle forward")
    client = gateway(FakeEngine(KNOWN), generator, **BELOW)
    bright, dark = client.post("/v1/captions", files=[("file", bright_clip), ("file", dark_clip)]).json()["data"]
    assert (bright["abstained"], bright["unfamiliar"]) == (False, False)
    assert (dark["abstained"], dark["unfamiliar"]) == (True, True)
    assert dark["caption"].startswith("Not sure. This clip is unlike those that the model knows")
    assert len(generator.asked) == 1


@pytest.mark.parametrize("options", [{}, {"stream": True}, {"options": ["wolf jump", "split jump"]}])
def test_answers_abstain(gateway: Gateway, dark_clip: bytes, options: dict[str, object]) -> None:
    generator = FakeGenerator("giant circle forward")
    client = gateway(FakeEngine(KNOWN), generator, **BELOW)
    response = client.post("/v1/chat/completions", json=asked(dark_clip, **options))
    assert response.status_code == 200
    assert "Not sure. This clip is unlike those that the model knows" in response.text
    assert '"abstained":true' in response.text.replace(" ", "")
    assert not generator.asked
