"""Reads collections without a table: the folders say what the clips are.

- ``<class>/…/clip.mp4``. Folders between class and file are the group.
- ``train/<class>/…``, ``val/…``, ``test/…``: the splits are given.
- ``unlabelled/…``, beside the classes or beside the splits, and videos outside of any folder: clips without a label.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .found_videos import videos_under
from .rows import SPLITS, CollectionError, Row, Split


def read_folders(root: Path) -> list[Row]:
    """Read a folder of videos.

    Raises:
        CollectionError: there are no videos, or folders of classes are beside ``train``, ``val`` or ``test``.
    """
    names = list(videos_under(root))
    if not names:
        raise CollectionError(
            f"{root} has no videos and no table of them; put clips into a folder for each class, {root}/CLASS/clip.mp4"
        )
    tops = {name.partition("/")[0] for name in names if "/" in name}
    splits = {top: SPLITS[top.lower()] for top in tops if top.lower() in SPLITS}
    parts = {top for top, split in splits.items() if split != "unlabelled"}
    classes = tops - splits.keys()
    if parts and classes:
        if "train" in splits.values() and len(parts) > 1:
            raise CollectionError(
                f"{root} has {', '.join(sorted(parts))} beside {_some(classes)}; move the classes into one of them"
            )
        parts = set()  # a class that is called train, or test
    if not parts:
        splits = {top: split for top, split in splits.items() if split == "unlabelled"}
    return [_row(name, splits) for name in names]


def _row(name: str, splits: Mapping[str, Split]) -> Row:
    folders = name.split("/")[:-1]
    split = SPLITS[folders[0].lower()] if folders and folders[0] in splits else None
    if split is not None:
        folders = folders[1:]
    if split == "unlabelled":
        return Row(name, group="/".join(folders) or None, split=split)
    label, between = (folders[0], folders[1:]) if folders else (None, [])
    return Row(name, label, group="/".join(between) or None, split=split)


def _some(names: set[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:3]) + (f" and {len(ordered) - 3} more" if len(ordered) > 3 else "")
