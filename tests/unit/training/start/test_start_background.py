"""The class `background`, from the time that no span covers."""

from __future__ import annotations

from pathlib import Path

import pytest
from start_videos import film

from sefar_training.start import CollectionError, Row, prepare, read_collection
from sefar_training.start.background import cut_background


def test_gaps_are_cut_into_clips_of_the_usual_length() -> None:
    rows = [
        Row("a.mp4", "jump", 2.0, 3.0, group="hall", split="test"),
        Row("a.mp4", "jump", 3.5, 4.5, group="hall", split="train"),
        Row("a.mp4", None, 5.0, 7.0),
        Row("b.mp4", "turn", 0.0, 4.0),
        Row("c.mp4", "jump"),
    ]
    found = cut_background(rows * 3, {"a.mp4": 9.2, "b.mp4": 4.5, "c.mp4": 60.0})
    # Half a second between two jumps is too short; the clip without a label may show a jump; c.mp4 has no spans.
    assert [(row.name, row.start, row.end) for row in found] == [
        ("a.mp4", 0.0, 1.0), ("a.mp4", 1.0, 2.0), ("a.mp4", 7.067, 8.067), ("a.mp4", 8.133, 9.133)
    ]  # fmt: skip
    assert {row.label for row in found} == {"background"}
    assert (found[0].group, found[0].split) == ("hall", "test")


def test_there_are_not_more_than_of_the_largest_class_and_all_videos_give_some() -> None:
    rows = [Row(f"{n}.mp4", "jump", 10.0, 11.0) for n in range(4)] + [Row("0.mp4", "background", 20.0, 21.0)]
    found = cut_background(rows, {f"{n}.mp4": 100.0 for n in range(4)})
    assert len(found) == 3  # four of the class jump, and one that is labelled already
    assert len({row.name for row in found}) == 3
    assert found == cut_background(rows, {f"{n}.mp4": 100.0 for n in range(4)})
    assert found != cut_background(rows, {f"{n}.mp4": 100.0 for n in range(4)}, seed=1)


def test_without_spans_or_free_time_there_is_none() -> None:
    with pytest.raises(CollectionError, match="no span has a label; give a table"):
        cut_background([Row("a.mp4", "jump")], {"a.mp4": 9.0})
    with pytest.raises(CollectionError, match=r"spans leave no 2\.0 s free in any video"):
        cut_background([Row("a.mp4", "jump", 1.0, 3.0)], {"a.mp4": 4.0})


def test_a_collection_gets_the_class(tmp_path: Path) -> None:
    for place in range(4):
        film(tmp_path / f"{place}.mp4", place, place, frames=100)
    lines = [f"{v}.mp4,{label},{n},{n + 0.6}" for v in range(4) for n, label in ((0, "up"), (2, "down"))]
    (tmp_path / "spans.csv").write_text("path,label,start,end\n" + "\n".join(lines) + "\n")
    found = prepare(tmp_path, background=True, progress=False, threads=1)
    assert found.classes == ("down", "up", "background")
    assert int((found.labels == 2).sum()) == 4
    assert all(look.frames == 15 for look, label in zip(found.looks, found.labels, strict=True) if label == 2)
    [note] = [f.text for f in found.findings if "no span covers" in f.text]
    assert note == "4 clips of 0.6 s of the time that no span covers are the class background"
    assert len(set(found.groups.of.tolist())) == 4


def test_any_spelling_of_background_is_the_class_that_segments_leave_out(tmp_path: Path) -> None:
    for name in ("Background", "jump"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.mp4").touch()
    assert read_collection(tmp_path).labels == ("background", "jump")
