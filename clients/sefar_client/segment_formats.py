"""Segments of long videos as text for other programs: CSV, WebVTT, Label Studio, ELAN.

Labels and file names are not trusted: each format escapes them in its own way, and characters that it cannot hold are
replaced.
"""

from __future__ import annotations

import csv
import io
import json
import mimetypes
import os
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import quote
from xml.etree import ElementTree

SegmentFormat = Literal["csv", "vtt", "label-studio", "elan"]
"""``csv``: a table. ``vtt``: WebVTT subtitles. ``label-studio``: tasks with predictions. ``elan``: an EAF document."""

SUFFIXES: dict[SegmentFormat, str] = {"csv": ".csv", "vtt": ".vtt", "label-studio": ".json", "elan": ".eaf"}
"""Suffix of the files of each format."""

ONE_VIDEO: frozenset[SegmentFormat] = frozenset({"vtt", "elan"})
"""Formats that hold one video."""

UNKNOWN_RATE = 24.0
"""Frames per second if an answer does not tell; Label Studio assumes the same."""

# Control characters, which XML 1.0 forbids, and halves of surrogate pairs, which a file name may have.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Segment(Protocol):
    """A stretch of a video with one label; times in seconds."""

    @property
    def start(self) -> float: ...  # noqa: D102
    @property
    def end(self) -> float: ...  # noqa: D102
    @property
    def label(self) -> str: ...  # noqa: D102
    @property
    def score(self) -> float: ...  # noqa: D102


class Frame(Protocol):
    """A frame that the model saw: its number and its time in seconds."""

    @property
    def index(self) -> int: ...  # noqa: D102
    @property
    def time(self) -> float: ...  # noqa: D102


class Clip(Protocol):
    """What was decoded."""

    @property
    def frames(self) -> Sequence[Frame]: ...  # noqa: D102


class Segmented(Protocol):
    """A classified video: `sefar_client.Classification`, or what has the same fields."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def clip(self) -> Clip: ...  # noqa: D102
    @property
    def segments(self) -> Sequence[Segment] | None: ...  # noqa: D102


def format_segments(results: Segmented | Sequence[Segmented], kind: SegmentFormat) -> str:
    """Write the segments of classified videos in the format of another program.

        result = model.classify("meet.mp4", window=1.5)
        Path("meet.vtt").write_text(format_segments(result, "vtt"), "utf-8")

    Args:
        results: answers of `classify` with a `window`; one for ``vtt`` and ``elan``, any number for ``csv`` and
            ``label-studio``.
        kind: the format.

    Raises:
        ValueError: unknown format, an answer without segments, or more than one video for ``vtt`` or ``elan``.
    """
    if kind not in _WRITERS:
        raise ValueError(f"unknown format {kind!r}; choose {', '.join(_WRITERS)}")
    several = list(results) if isinstance(results, Sequence) else [results]
    if without := next((one for one in several if one.segments is None), None):
        raise ValueError(f"{without.name} was classified without a `window`, so it has no segments")
    if kind in ONE_VIDEO and len(several) != 1:
        raise ValueError(f"a file of the format {kind} holds one video, not {len(several)}; write one for each")
    return _WRITERS[kind](several)


def _csv(results: Sequence[Segmented]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("video", "start", "end", "label", "score"))
    for result in results:
        for one in result.segments or ():
            times = (f"{one.start:.3f}", f"{one.end:.3f}")
            table.writerow((_printable(result.name), *times, _printable(one.label), f"{one.score:.4f}"))
    return text.getvalue()


def _vtt(results: Sequence[Segmented]) -> str:
    [result] = results
    cues = ["WEBVTT\n"]
    for one in result.segments or ():
        start, end = _milliseconds(one)
        # A blank line would end the cue, and "-->" would start another; the latter is gone once ">" is escaped.
        label = " ".join(_printable(one.label).split())
        cues.append(f"{_clock(start)} --> {_clock(end)}\n{escape(label, quote=False)} ({one.score:.0%})\n")
    return "\n".join(cues)


def _clock(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{rest:03d}"


def _label_studio(results: Sequence[Segmented]) -> str:
    """Tasks for the tags ``<TimelineLabels name="label" toName="video">`` and ``<Video name="video">``."""
    return json.dumps([_task(result) for result in results], ensure_ascii=False, indent=2) + "\n"


def _task(result: Segmented) -> dict[str, Any]:
    rate = _frame_rate(result.clip.frames)
    regions = []
    for number, one in enumerate(result.segments or (), 1):
        first = round(one.start * rate) + 1  # Label Studio counts frames from 1, and the last one is included
        regions.append(
            {
                "id": str(number),
                "from_name": "label",
                "to_name": "video",
                "type": "timelinelabels",
                "score": round(one.score, 4),
                "value": {
                    "ranges": [{"start": first, "end": max(first, round(one.end * rate))}],
                    "timelinelabels": [_printable(one.label)],
                },
            }
        )
    return {
        "data": {"video": _printable(result.name), "frame_rate": rate},
        "predictions": [{"model_version": "sefar", "result": regions}],
    }


def _frame_rate(frames: Sequence[Frame]) -> float:
    """Frames per second between the first and the last frame that the model saw."""
    if not frames:
        return UNKNOWN_RATE
    first, last = (choose(frames, key=lambda frame: frame.index) for choose in (min, max))
    if last.time <= first.time:
        return UNKNOWN_RATE
    return round((last.index - first.index) / (last.time - first.time), 3)


def _elan(results: Sequence[Segmented]) -> str:
    """An EAF 3.0 document: a tier of labels, and below it one of their scores."""
    [result] = results
    root = ElementTree.Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": "sefar",
            "DATE": datetime.now(UTC).isoformat(timespec="seconds"),
            "FORMAT": "3.0",
            "VERSION": "3.0",
            "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
            "xsi:noNamespaceSchemaLocation": "http://www.mpi.nl/tools/elan/EAFv3.0.xsd",
        },
    )
    header = ElementTree.SubElement(root, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    ElementTree.SubElement(header, "MEDIA_DESCRIPTOR", _media(result.name))
    segments = result.segments or ()
    last = ElementTree.SubElement(header, "PROPERTY", NAME="lastUsedAnnotationId")
    last.text = str(2 * len(segments))
    order = ElementTree.SubElement(root, "TIME_ORDER")
    labels = ElementTree.SubElement(root, "TIER", LINGUISTIC_TYPE_REF="label", TIER_ID="label")
    scores = ElementTree.SubElement(root, "TIER", LINGUISTIC_TYPE_REF="score", PARENT_REF="label", TIER_ID="score")
    for number, one in enumerate(segments):
        slots = [f"ts{2 * number + 1}", f"ts{2 * number + 2}"]
        for slot, time in zip(slots, _milliseconds(one), strict=True):
            ElementTree.SubElement(order, "TIME_SLOT", TIME_SLOT_ID=slot, TIME_VALUE=str(time))
        of_label, of_score = f"a{2 * number + 1}", f"a{2 * number + 2}"
        references = {"ANNOTATION_ID": of_label, "TIME_SLOT_REF1": slots[0], "TIME_SLOT_REF2": slots[1]}
        _annotate(labels, "ALIGNABLE_ANNOTATION", references, _printable(one.label))
        references = {"ANNOTATION_ID": of_score, "ANNOTATION_REF": of_label}
        _annotate(scores, "REF_ANNOTATION", references, f"{one.score:.4f}")
    ElementTree.SubElement(
        root, "LINGUISTIC_TYPE", GRAPHIC_REFERENCES="false", LINGUISTIC_TYPE_ID="label", TIME_ALIGNABLE="true"
    )
    ElementTree.SubElement(
        root,
        "LINGUISTIC_TYPE",
        CONSTRAINTS="Symbolic_Association",
        GRAPHIC_REFERENCES="false",
        LINGUISTIC_TYPE_ID="score",
        TIME_ALIGNABLE="false",
    )
    ElementTree.SubElement(
        root,
        "CONSTRAINT",
        DESCRIPTION="1-1 association with a parent annotation",
        STEREOTYPE="Symbolic_Association",
    )
    ElementTree.indent(root, "    ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, "unicode") + "\n"


def _annotate(tier: ElementTree.Element, kind: str, references: dict[str, str], text: str) -> None:
    around = ElementTree.SubElement(tier, "ANNOTATION")
    ElementTree.SubElement(ElementTree.SubElement(around, kind, references), "ANNOTATION_VALUE").text = text


def _media(name: str) -> dict[str, str]:
    """Where ELAN looks for the video: at its path if it is known, then beside the document."""
    kind = mimetypes.guess_type(name)[0] or "video/mp4"
    if "://" in name:
        return {"MEDIA_URL": _printable(name), "MIME_TYPE": kind}
    beside = f"./{quote(os.fsencode(Path(name).name))}"
    path = Path(name)
    known = path.is_absolute() or path.is_file()
    place = f"file://{quote(os.fsencode(path.absolute().as_posix()))}" if known else beside
    return {"MEDIA_URL": place, "MIME_TYPE": kind, "RELATIVE_MEDIA_URL": beside}


def _milliseconds(one: Segment) -> tuple[int, int]:
    """Start and end; at least a millisecond apart, because programs refuse empty spans."""
    start = round(one.start * 1000)
    return start, max(start + 1, round(one.end * 1000))


def _printable(text: str) -> str:
    return _UNPRINTABLE.sub("\ufffd", text)


_WRITERS: dict[SegmentFormat, Callable[[Sequence[Segmented]], str]] = {
    "csv": _csv,
    "vtt": _vtt,
    "label-studio": _label_studio,
    "elan": _elan,
}
