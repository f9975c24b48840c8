"""Reads Label Studio's exports, JSON and JSON-MIN, of videos.

Segments on the timeline of ``<TimelineLabels>`` are frames, counted from 1, of which the last belongs to the segment;
those of ``<Labels>`` on a synchronised audio track are seconds; ``<Choices>`` are labels of the whole video
(https://labelstud.io/guide/export, https://labelstud.io/tags/timelinelabels).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sefar_serve.clip import VIDEO_SUFFIXES

from .found_videos import AmbiguousVideoError, Videos
from .rows import Problems, Row, checked_span, read_seconds
from .table import read_label

_LABELS = ("timelinelabels", "labels", "videolabels", "choices")


def is_label_studio(data: Any) -> bool:
    """Whether parsed JSON has one of these formats."""
    if not isinstance(data, list) or not data or not all(isinstance(task, dict) for task in data):
        return False
    task = data[0]
    return (isinstance(task.get("data"), dict) and "annotations" in task) or ("annotation_id" in task and "id" in task)


def read_label_studio(data: Any, videos: Videos, problems: Problems) -> list[Row]:
    """Read tasks; one without annotations becomes one clip without a label. Cancelled annotations are skipped.

    Args:
        data: the parsed JSON.
        videos: where the videos are.
        problems: gets what is wrong with rows.
    """
    rows: list[Row] = []
    for number, task in enumerate(data, start=1):
        where = f"task {task.get('id', number)}"
        try:
            fields = task["data"] if isinstance(task.get("data"), dict) else task
            name = videos.find(_video(fields))
            found = [row for value in _values(task) for row in _rows(name, value, videos)]
            rows += found or [Row(name)]
        except (ValueError, AmbiguousVideoError) as error:
            problems.add(where, str(error))
    return rows


def _video(fields: Mapping[str, Any]) -> str:
    """The video of a task: the field that says so, or looks so."""
    texts = {key: value for key, value in fields.items() if isinstance(value, str)}
    for key, value in texts.items():
        if key.lower() in ("video", "video_url", "video_path") or value.lower().endswith(VIDEO_SUFFIXES):
            return value
    raise ValueError(f"no video in its data (it has {', '.join(fields)}); name the field `video`")


def _values(task: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if "annotations" in task:
        for annotation in task["annotations"] or []:
            if isinstance(annotation, dict) and not annotation.get("was_cancelled"):
                for result in annotation.get("result") or []:
                    if isinstance(result, dict) and isinstance(result.get("value"), dict):
                        yield result["value"]
        return
    for key, value in task.items():  # JSON-MIN: a field for each control tag
        if isinstance(value, list):
            yield from (region for region in value if isinstance(region, dict))
        elif key in ("choice", "label", "class") and isinstance(value, str):
            yield {"choices": [value]}


def _rows(name: str, value: Mapping[str, Any], videos: Videos) -> Iterator[Row]:
    labels: list[Any] = next((value[key] for key in _LABELS if isinstance(value.get(key), list)), [])
    if not labels:
        return
    if "ranges" in value:
        spans = [_frames(name, part, videos) for part in value["ranges"]]
    elif "start" in value and "end" in value:
        spans = [(read_seconds(value["start"], "start"), read_seconds(value["end"], "end"))]
    elif "choices" in value:
        spans = [(None, None)]
    else:
        return  # a box or another region that has no segment of time
    for start, end in spans:
        checked_span(start, end)
        yield from (Row(name, read_label(label), start, end) for label in labels)


def _frames(name: str, part: Any, videos: Videos) -> tuple[float | None, float | None]:
    try:
        first, last = int(part["start"]), int(part["end"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{part!r} is not {{"start": FRAME, "end": FRAME}}') from error
    return videos.seconds(name, first - 1), videos.seconds(name, last)
