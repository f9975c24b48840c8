"""Writes a prepared collection into the folder of a run: lists for training, and a table of everything known."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sefar_serve.atomic import atomic_folder
from sefar_serve.lists import UNKNOWN, write_list

from .prepare import Prepared
from .rows import CollectionError, Split

LISTS = "lists"
LABELS = "labels.txt"
CLIPS = "clips.csv"
LEFT_OUT = "left_out.csv"
FOUND = "found.json"
FILES: dict[Split, str] = {"train": "train.csv", "val": "val.csv", "test": "test.csv", "unlabelled": "unlabel.csv"}

COLUMNS = (
    *("path", "label", "start", "end", "group", "split", "fold_new_places", "fold_same_places", "seconds", "frames"),
    *("fps", "width", "height", "damaged"),
)


def check_out(out: Path) -> None:
    """Check that a folder may be replaced: it does not exist, or has only what `write_prepared` writes.

    Raises:
        CollectionError: it has something else.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise CollectionError(f"{out} is a file; choose a folder with --out")
    other = sorted(path.name for path in out.iterdir() if path.name not in (LISTS, LABELS, CLIPS, LEFT_OUT, FOUND))
    if other:
        raise CollectionError(
            f"{out} has other files, e.g. {other[0]}, which would be lost; choose another folder with --out"
        )


def write_prepared(prepared: Prepared, out: Path) -> None:
    """Write the folder of a run, all of it or nothing.

    - ``lists/train.csv``, ``val.csv``, ``test.csv``, ``unlabel.csv``: those that have clips, as `read_list` reads them.
      Unlabelled clips keep a label that is known; training uses it only to count right pseudo-labels.
    - ``labels.txt``: line n names class n.
    - ``clips.csv``: every clip with its group, split and folds; `sefar init` reads it back.
    - ``left_out.csv``: every clip that is not used, and why.
    - ``found.json``: the findings and figures.

    Args:
        prepared: the collection.
        out: the folder, see `check_out`.

    Raises:
        CollectionError: the folder has other files.
    """
    check_out(out)
    with atomic_folder(out.absolute()) as new:
        (new / LISTS).mkdir()
        for split, file in FILES.items():
            entries = [prepared.entry(i) for i in prepared.splits.of(split).tolist()]
            if entries and prepared.classes:
                write_list(new / LISTS / file, entries)
        (new / LABELS).write_text("".join(f"{name}\n" for name in prepared.classes), encoding="utf-8")
        _write_csv(new / CLIPS, COLUMNS, _clips(prepared))
        left_out = [[o.row.name, o.row.label, o.row.start, o.row.end, o.reason] for o in prepared.left_out]
        _write_csv(new / LEFT_OUT, ("path", "label", "start", "end", "reason"), left_out)
        told = json.dumps(summary(prepared), indent=1, ensure_ascii=False)
        (new / FOUND).write_text(told + "\n", encoding="utf-8")


def _clips(prepared: Prepared) -> list[list[Any]]:
    split_of = {i: split for split in FILES for i in prepared.splits.of(split).tolist()}
    folds = prepared.folds
    table = []
    for i, (row, look) in enumerate(zip(prepared.rows, prepared.looks, strict=True)):
        facts = look.file
        assert facts is not None  # clips that are used were opened
        labelled = prepared.labels[i] != UNKNOWN
        table.append(
            [
                *(row.name, row.label, row.start, row.end, prepared.groups.names[prepared.groups.of[i]]),
                split_of[i] if prepared.classes else None,
                *(
                    int(fold[i]) if labelled and fold[i] >= 0 else None
                    for fold in (folds.new_places, folds.same_places)
                ),
                *(round(look.seconds, 3), look.frames, round(facts.fps, 3), facts.width, facts.height),
                int(look.damaged),
            ]
        )
    return table


def _write_csv(file: Path, columns: tuple[str, ...], rows: list[list[Any]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def summary(prepared: Prepared) -> dict[str, Any]:
    """Everything but the clips themselves, for JSON."""
    splits, labels = prepared.splits, prepared.labels
    return {
        "root": str(prepared.collection.root),
        "sources": [str(source) for source in prepared.collection.sources],
        "format": prepared.collection.format,
        "files": len({row.name for row in prepared.rows}),
        "clips": len(prepared.rows),
        "left_out": len(prepared.left_out),
        "classes": [
            {
                "label": name,
                "clips": int((labels == k).sum()),
                "groups": len(set(prepared.groups.of[labels == k].tolist())),
                **{split: int((labels[splits.of(split)] == k).sum()) for split in FILES},
            }
            for k, name in enumerate(prepared.classes)
        ],
        "splits": {split: len(splits.of(split)) for split in FILES},
        "groups": {"count": prepared.groups.count, "how": prepared.groups.how, "why": prepared.groups.why},
        "folds": {"new_places": prepared.folds.count, "same_places": prepared.folds.same_count},
        "first_frame": None if prepared.leak is None else asdict(prepared.leak),
        "findings": [asdict(finding) for finding in prepared.findings],
        "labels_per_class": prepared.labels_per_class,
        "seed": prepared.seed,
        "trainable": prepared.trainable,
    }
