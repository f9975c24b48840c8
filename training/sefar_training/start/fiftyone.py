"""Reads FiftyOne's JSON exports of temporal detections.

- ``FiftyOneTemporalDetectionDataset``: ``labels.json`` beside ``data/``, with ``{"classes": […], "labels": {"ID":
  [{"label": 0, "support": [1, 30]}]}}``; or ``"timestamps": [0.0, 1.2]`` in seconds instead of frames.
- ``FiftyOneVideoClassificationDataset``-like ``{"classes": […], "labels": {"ID": "jump"}}``.
- ``FiftyOneDataset``: ``samples.json`` with ``{"samples": [{"filepath": …, "events": {"detections": […]}}]}``.

Frames count from 1, and the last one belongs to the segment (https://docs.voxel51.com, TemporalDetection.support).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .found_videos import AmbiguousVideoError, Videos
from .rows import SPLITS, Problems, Row, checked_span, read_seconds
from .table import read_label


def is_fiftyone(data: Any) -> bool:
    """Whether parsed JSON has one of these formats."""
    return isinstance(data, dict) and (isinstance(data.get("labels"), dict) or isinstance(data.get("samples"), list))


def read_fiftyone(data: Any, videos: Videos, problems: Problems) -> list[Row]:
    """Read temporal detections; a sample without any becomes one clip without a label.

    Args:
        data: the parsed JSON.
        videos: where the videos are.
        problems: gets what is wrong with rows.
    """
    if isinstance(data.get("samples"), list):
        return list(_samples(data["samples"], videos, problems))
    rows: list[Row] = []
    classes = data.get("classes") or []
    for key, labels in data["labels"].items():
        where = f"labels of {key}"
        try:
            name = videos.find(key)
            if isinstance(labels, list):
                rows += _detections(name, labels, classes, videos) or [Row(name)]
            else:
                rows.append(Row(name, _label(labels, classes)))
        except (ValueError, AmbiguousVideoError) as error:
            problems.add(where, str(error))
    return rows


def _samples(samples: Sequence[Any], videos: Videos, problems: Problems) -> Iterator[Row]:
    for number, sample in enumerate(samples, start=1):
        try:
            if not isinstance(sample, dict) or not isinstance(sample.get("filepath"), str):
                raise ValueError('not an object with "filepath"')
            name = videos.find(sample["filepath"])
            tags = sample.get("tags") or []
            split = next((SPLITS[str(tag).lower()] for tag in tags if str(tag).lower() in SPLITS), None)
            rows: list[Row] = []
            for value in sample.values():
                kind = value.get("_cls") if isinstance(value, dict) else None
                if kind == "TemporalDetections":
                    rows += _detections(name, value.get("detections") or [], (), videos)
                elif kind == "TemporalDetection":
                    rows += _detections(name, [value], (), videos)
                elif kind == "Classification":
                    rows.append(Row(name, read_label(value.get("label"))))
            for row in rows or [Row(name)]:
                yield Row(row.name, row.label, row.start, row.end, split=split)
        except (ValueError, AmbiguousVideoError) as error:
            problems.add(f"sample {number}", str(error))


def _detections(name: str, found: Sequence[Any], classes: Sequence[Any], videos: Videos) -> list[Row]:
    rows = []
    for detection in found:
        if not isinstance(detection, Mapping) or "label" not in detection:
            raise ValueError(f'{detection!r} is not {{"label": NAME, "support": [FIRST, LAST]}}')
        try:
            if "timestamps" in detection:
                start, end = detection["timestamps"]
                start, end = read_seconds(start, "start"), read_seconds(end, "end")
            else:
                first, last = (int(frame) for frame in detection["support"])
                start, end = videos.seconds(name, first - 1), videos.seconds(name, last)
        except (KeyError, TypeError) as error:
            raise ValueError(f'{detection!r} has no "support": [FIRST, LAST], frames from 1 ({error!r})') from error
        checked_span(start, end)
        rows.append(Row(name, _label(detection["label"], classes), start, end))
    return rows


def _label(value: object, classes: Sequence[Any]) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(classes):
        return read_label(classes[value])
    return read_label(value)
