"""Reads ActivityNet's JSON, which THUMOS, HACS and FineAction are published in too.

``{"database": {"ID": {"subset": "training", "annotations": [{"segment": [3.2, 8], "label": "jump"}]}}}``, times in
seconds (http://activity-net.org/download.html). A video is the file ``ID`` or ``v_ID`` with any suffix.
"""

from __future__ import annotations

from typing import Any

from .found_videos import AmbiguousVideoError, Videos
from .rows import Problems, Row, checked_span, read_seconds
from .table import read_label, read_split


def is_activitynet(data: Any) -> bool:
    """Whether parsed JSON has this format."""
    return isinstance(data, dict) and isinstance(data.get("database"), dict)


def read_activitynet(data: Any, videos: Videos, problems: Problems) -> list[Row]:
    """Read segments; a video without annotations becomes one clip without a label.

    Args:
        data: the parsed JSON.
        videos: where the videos are.
        problems: gets what is wrong with rows.
    """
    rows = []
    for key, video in data["database"].items():
        annotations = (video.get("annotations") or []) if isinstance(video, dict) else None
        if not isinstance(annotations, list):
            problems.add(f"video {key}", 'not an object with "annotations"')
            continue
        try:
            name, split = videos.find(key), read_split(video.get("subset"))
        except (ValueError, AmbiguousVideoError) as error:
            problems.add(f"video {key}", str(error))
            continue
        if not annotations:
            rows.append(Row(name, split=split))
        for number, annotation in enumerate(annotations, start=1):
            try:
                start, end = annotation["segment"]
                start, end = read_seconds(start, "start"), read_seconds(end, "end")
                checked_span(start, end)
                rows.append(Row(name, read_label(annotation["label"]), start, end, split=split))
            except (KeyError, TypeError) as error:
                problems.add(
                    f"video {key}, annotation {number}",
                    f'{error!r}; write {{"segment": [START, END], "label": NAME}}, in seconds',
                )
            except ValueError as error:
                problems.add(f"video {key}, annotation {number}", str(error))
    return rows
