"""Segments on the terminal and in files."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from sefar_serve.cli import console
from sefar_serve.cli.segments import Format, save_segments
from sefar_serve.schemas.problem import ErrorBody, ItemError
from sefar_serve.schemas.video import Classification, ClipInfo, Label, Segment, WindowLabels

LABEL = Label(label="[red]jump[/]", index=0, score=0.9, logit=None)
FAILED = ItemError(
    index=1, name="bad.mp4", error=ErrorBody(message="bad.mp4 is no video", type="t", param=None, code="not_a_video")
)


def answer(name: str = "a/meet.mp4") -> Classification:
    return Classification(
        index=0,
        name=name,
        clip_id=None,
        labels=[LABEL],
        reliability=0.5,
        clip=ClipInfo(
            frame_count=9, duration=4, width=1, height=1, stream=0, frames=[], corrupt_frames=[], warnings=[]
        ),
        timeline=[WindowLabels(start=0, end=1, labels=[LABEL, LABEL], reliability=0.5, warnings=[])],
        segments=[Segment(start=0, end=1.5, label="[red]jump[/]", index=0, score=0.9)],
    )


def test_one_video_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    save_segments(["a/meet.mp4"], [answer()], Format.VTT, None)
    assert capsys.readouterr().out == "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\n[red]jump[/] (90%)\n"


def test_failures_do_not_spoil_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "err", Console(stderr=True, width=200))
    save_segments(["a/meet.mp4", "bad.mp4"], [answer(), FAILED], Format.CSV, None)
    printed = capsys.readouterr()
    assert printed.out.splitlines()[1:] == ["a/meet.mp4,0.000,1.500,[red]jump[/],0.9000"]
    assert "not_a_video: bad.mp4 is no video" in printed.err


def test_a_file_for_all_videos(tmp_path: Path) -> None:
    out = tmp_path / "new" / "tasks.json"
    save_segments(["a/meet.mp4", "b.mp4"], [answer(), answer("b.mp4")], Format.LABEL_STUDIO, out)
    assert [task["data"]["video"] for task in json.loads(out.read_text("utf-8"))] == ["a/meet.mp4", "b.mp4"]


def test_a_file_for_each_video(tmp_path: Path) -> None:
    files = ["a/meet.mp4", "http://x.y/b.mov?c=d.e", "bad.mp4"]
    items = [answer(), answer("http://x.y/b.mov?c=d.e"), FAILED]
    save_segments(files, items, Format.ELAN, tmp_path / "out")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["b.eaf", "meet.eaf"]


def test_nothing_is_written_if_all_failed(tmp_path: Path) -> None:
    save_segments(["bad.mp4"], [FAILED], Format.CSV, tmp_path / "a.csv")
    assert not (tmp_path / "a.csv").exists()


def test_the_table_has_segments_and_shows_labels_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.StringIO()
    monkeypatch.setattr(console, "out", Console(file=printed, width=120))
    console.print_classifications([answer()])
    assert "segments" in printed.getvalue()
    assert "0.00–1.50" in printed.getvalue()
    assert printed.getvalue().count("[red]jump[/]") == 3
