"""Reads the CSV export of VIA, the VGG video annotator, version 3: temporal segments with a label.

``"1_abc","[""a.mp4""]",0,"[1.12,5.31]","[]","{""1"":""jump""}"`` below lines of comments, times in seconds. An
attribute with options stores the number of the option; the comment ``# ATTRIBUTE = {…}`` has their names
(https://www.robots.ox.ac.uk/~vgg/software/via).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .found_videos import AmbiguousVideoError, Videos
from .rows import Problems, Row, checked_span, read_seconds
from .table import read_label

_COLUMNS = ("metadata_id", "file_list", "flags", "temporal_coordinates", "spatial_coordinates", "metadata")
_SEGMENT_ANCHOR = "FILE1_Z2_XY0"
"""VIA's name for attributes of segments of time in one file."""


def is_via(head: str) -> bool:
    """Whether a file whose first lines are these has this format."""
    return "CSV_HEADER" in head and "temporal_coordinates" in head


def read_via(file: Path, problems: Problems, videos: Videos) -> list[Row]:
    """Read temporal segments; boxes and marks at one time are skipped.

    The label is the first attribute of a segment that has a value.

    Args:
        file: the export.
        problems: gets what is wrong with rows.
        videos: where the videos are.
    """
    rows: list[Row] = []
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        problems.add("", f"{error}; save it as UTF-8")
        return rows
    lines = text.splitlines()
    attributes = _attributes([line for line in lines if line.startswith("#")])
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            fields = dict(zip(_COLUMNS, next(csv.reader([line])), strict=False))
            times = json.loads(fields["temporal_coordinates"])
            if len(times) != 2:
                continue
            start, end = read_seconds(times[0], "start"), read_seconds(times[1], "end")
            checked_span(start, end)
            [path, *_] = json.loads(fields["file_list"])
            rows.append(Row(videos.find(path), _label(json.loads(fields["metadata"]), attributes), start, end))
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            problems.add(f"line {number}", f"not a line of VIA's export ({error}); export it again")
        except (ValueError, AmbiguousVideoError) as error:
            problems.add(f"line {number}", str(error))
    return rows


def _attributes(comments: list[str]) -> dict[str, Mapping[str, Any]]:
    for comment in comments:
        name, _, value = comment.lstrip("# ").partition(" = ")
        if name in ("ATTRIBUTE", "ATTRIBUTES"):
            try:
                found = json.loads(value)
            except ValueError:
                return {}
            return {key: told if isinstance(told, dict) else {} for key, told in found.items()}
    return {}


def _label(metadata: Mapping[str, Any], attributes: Mapping[str, Mapping[str, Any]]) -> str | None:
    def order(key: str) -> tuple[bool, str]:
        anchor = attributes.get(key, {}).get("anchor_id", _SEGMENT_ANCHOR)
        return anchor != _SEGMENT_ANCHOR, key

    for key in sorted(metadata, key=order):
        value = metadata[key]
        if value not in ("", "_DEFAULT", None):
            options = attributes.get(key, {}).get("options") or {}
            return read_label(options.get(str(value), value))
    return None
