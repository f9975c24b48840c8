"""How results print, compare and hash."""

from __future__ import annotations

import numpy as np
import pytest

from sefar_client.clips import ClipInfo, Label, SourceFrame, Usage
from sefar_client.results import Classification, Embedding, Segment, WindowEmbedding
from sefar_client.videos import Failure

WINDOW = WindowEmbedding(start=0.0, end=1.5, embedding=np.zeros(256), tokens=np.zeros((3, 128)))


def test_the_repr_shows_the_shape_of_arrays() -> None:
    arrays = "embedding=<float32 (256,)>, tokens=<float32 (3, 128)>"
    assert repr(WINDOW) == f"WindowEmbedding(start=0.0, end=1.5, {arrays})"


LABEL = Label(label="a", index=0, score=0.98765, logit=None, attributes={})
CLIP = ClipInfo(
    frame_count=24,
    duration=1.0,
    width=96,
    height=96,
    stream=0,
    frames=[SourceFrame(index=i, time=i / 24, element="context") for i in range(8)],
    corrupt_frames=[],
    warnings=[],
)


def test_the_repr_of_an_answer_fits_on_a_line_and_the_dump_has_everything() -> None:
    usage = Usage(prompt_tokens=8, total_tokens=8, clips=1)
    common = {"index": 0, "name": "a.mp4", "clip_id": None, "clip": CLIP, "model": "m", "version": "1", "usage": usage}
    found = Classification(object="classification", labels=[LABEL], reliability=0.5, timeline=None, **common)
    assert repr([found]) == "[Classification(name='a.mp4', label='a', score=0.988, reliability=0.5)]"
    assert found.model_dump()["clip"]["frame_count"] == 24
    vectors = Embedding(object="embedding", embedding=np.zeros(256), tokens=None, timeline=[WINDOW], **common)
    assert repr(vectors) == "Embedding(name='a.mp4', embedding=<float32 (256,)>, windows=1)"
    assert "frames=<8 items>" in repr(CLIP)


def test_the_repr_of_a_failure_does_not_show_the_video() -> None:
    assert repr(Failure(b"x" * 5000, ValueError("no"))) == "Failure(video=<5000 bytes>, error=ValueError('no'))"


def test_results_are_not_hashable() -> None:
    for result in (WINDOW, Label(label="a", index=0, score=1.0, logit=None, attributes={})):
        with pytest.raises(TypeError, match=f"^unhashable type: '{type(result).__name__}'$"):
            hash(result)


def test_segments_print_and_show_in_notebooks() -> None:
    usage = Usage(prompt_tokens=8, total_tokens=8, clips=1)
    common = {"index": 0, "name": "a.mp4", "clip_id": None, "clip": CLIP, "model": "m", "version": "1", "usage": usage}
    segment = Segment(start=0.0, end=1.25, label="<jump>", index=0, score=0.876)
    found = Classification(
        object="classification", labels=[LABEL], reliability=0.5, timeline=None, segments=[segment], **common
    )
    assert str(segment) == "0.0–1.2 s: <jump> (88%)"
    assert "segments=1" in repr(found)
    assert "0.0–1.2 s: &lt;jump&gt; (88%)" in found._repr_html_()
