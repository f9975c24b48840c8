"""Reads CVAT's XML exports of video tasks.

- "CVAT for video 1.1": a ``<track label=…>`` is a segment from its first shape that is not ``outside`` to the next
  one that is.
- "CVAT for images 1.1": consecutive frames that have the same ``<tag label=…>`` are a segment.

Frames of a task are numbered from 0 and may be a part of the video: ``start_frame``, and ``step=N`` in
``frame_filter`` (https://docs.cvat.ai/docs/manual/advanced/xml_format/). The XML does not say how long frames last, so
the videos must be there.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .found_videos import AmbiguousVideoError, Videos
from .rows import Problems, Row, checked_span
from .table import read_split


@dataclass(frozen=True)
class _Task:
    """A task: its video, and which frames of the video are its frames."""

    source: str
    first: int
    step: int
    size: int
    split: str | None

    def frame(self, number: int) -> int:
        return self.first + number * self.step


def is_cvat(head: str) -> bool:
    """Whether an XML file that begins so has this format."""
    return "<annotations" in head


def read_cvat(file: Path, videos: Videos, problems: Problems) -> list[Row]:
    """Read tracks and tags as segments; a task without any becomes one clip without a label.

    Args:
        file: the export.
        videos: where the videos are.
        problems: gets what is wrong with the file and its tasks.
    """
    try:
        root = ET.fromstring(_without_entities(file.read_bytes()))
    except (ET.ParseError, ValueError) as error:
        problems.add("", f"{error}; export the task again")
        return []
    rows: list[Row] = []
    tasks = {str(key): task for key, task in _tasks(root)}
    if not tasks:
        problems.add("", "no <task>, <job> or <source> in its <meta>; export it as `CVAT for video 1.1`")
    for key, task in tasks.items():
        one = len(tasks) == 1
        tracks = [track for track in root.findall("track") if one or track.get("task_id") == key]
        images = [image for image in root.findall("image") if one or image.get("task_id") == key]
        try:
            name, split = videos.find(task.source), read_split(task.split)
            spans = [*_tracks(tracks, task.size), *_tags(images)]
            for label, first, past in spans:
                start, end = (videos.seconds(name, task.frame(number)) for number in (first, past))
                checked_span(start, end)
                rows.append(Row(name, label, start, end, split=split))
            if not spans:
                rows.append(Row(name, split=split))
        except (ValueError, TypeError, AmbiguousVideoError) as error:
            problems.add(f"task {key}", f"{error}; export it again")
    return rows


def _without_entities(data: bytes) -> bytes:
    """Refuse entities: a small file of them can expand to gigabytes."""
    if b"<!ENTITY" in data or b"<!DOCTYPE" in data:
        raise ValueError("it declares entities, which CVAT does not write")
    return data


def _tasks(root: ET.Element) -> Iterator[tuple[str, _Task]]:
    meta = root.find("meta")
    if meta is None:
        return
    for told in [*meta.findall("task"), *meta.findall("job"), *meta.findall("project/tasks/task")]:
        source = told.findtext("source") or meta.findtext("source") or told.findtext("name") or ""
        if source:
            step = re.search(r"step\s*=\s*(\d+)", told.findtext("frame_filter") or "")
            first = int(told.findtext("start_frame") or 0)
            size = int(told.findtext("size") or 0)
            split = (told.findtext("subset") or "").strip().lower()
            known = split if split in ("train", "validation", "val", "test") else None
            yield told.findtext("id") or "0", _Task(source.strip(), first, int(step[1]) if step else 1, size, known)


def _tracks(tracks: Iterable[ET.Element], size: int) -> Iterator[tuple[str | None, int, int]]:
    """Label, first frame and the frame after the last, of each segment of a track."""
    for track in tracks:
        begun: int | None = None
        last = 0
        for shape in sorted((s for s in track if s.get("frame")), key=lambda s: int(s.get("frame") or 0)):
            number = int(shape.get("frame") or 0)
            if shape.get("outside") == "1":
                if begun is not None:
                    yield track.get("label"), begun, number
                begun = None
            elif begun is None:
                begun = number
            last = number
        if begun is not None:  # an open track lasts until its last shape
            yield track.get("label"), begun, min(last + 1, size) if size else last + 1


def _tags(images: Iterable[ET.Element]) -> Iterator[tuple[str | None, int, int]]:
    by_label: dict[str | None, list[int]] = {}
    for image in images:
        for tag in image.findall("tag"):
            by_label.setdefault(tag.get("label"), []).append(int(image.get("id") or 0))
    for label, numbers in by_label.items():
        ordered = sorted(set(numbers))
        begun = ordered[0]
        for number, following in zip(ordered, [*ordered[1:], None], strict=True):
            if following != number + 1:
                yield label, begun, number + 1
                begun = following if following is not None else begun
