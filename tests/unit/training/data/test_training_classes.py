from __future__ import annotations

import json
from pathlib import Path

import pytest

from sefar_serve.lists import UNKNOWN, ListEntry
from sefar_training.data import ClassesError, ClassTable


def test_labels_alone(shared_data: Path) -> None:
    table = ClassTable.read(shared_data / "official" / "gym99_labels.txt")
    assert len(table.labels) == 99
    assert table.attributes == table.opposites == ()


def test_attributes_and_opposites(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("forward\nbackward\nleap\n")
    entries = [
        {"name": "forward", "attributes": {"saltos": 1}, "opposite": 1},
        {"name": "backward", "attributes": {"saltos": 1}, "opposite": 0},
        {"name": "leap", "attributes": {"position": "split"}, "opposite": None},
    ]
    (tmp_path / "classes.json").write_text(json.dumps(entries))
    table = ClassTable.read(tmp_path / "labels.txt", tmp_path / "classes.json")
    assert table.labels == ("forward", "backward", "leap")
    assert table.attributes[2] == {"position": "split"}
    assert table.opposites == (1, 0, None)


@pytest.mark.parametrize("content", ["{", "[1]", '[{"name": "a"}]', "3"])
def test_malformed_table_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "labels.txt").write_text("a\n")
    (tmp_path / "classes.json").write_text(content)
    with pytest.raises(ClassesError, match=r"classes\.json is not a list of objects"):
        ClassTable.read(tmp_path / "labels.txt", tmp_path / "classes.json")


def test_contradicting_files_and_empty_labels_are_named(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("a\n")
    (tmp_path / "classes.json").write_text('[{"name": "b", "attributes": {}, "opposite": null}]')
    with pytest.raises(ClassesError, match="list different class names"):
        ClassTable.read(tmp_path / "labels.txt", tmp_path / "classes.json")
    (tmp_path / "labels.txt").write_text("\n")
    with pytest.raises(ClassesError, match="is empty; it needs one class name per line"):
        ClassTable.read(tmp_path / "labels.txt")
    (tmp_path / "labels.txt").write_text("a\n\nc\n")
    with pytest.raises(ClassesError, match="line 2 is empty"):
        ClassTable.read(tmp_path / "labels.txt")
    with pytest.raises(ClassesError, match=r"label file .*absent\.txt does not exist; with data\.labels=null"):
        ClassTable.read(tmp_path / "absent.txt")


def test_names_may_come_from_the_table_alone_or_be_numbers(tmp_path: Path) -> None:
    (tmp_path / "classes.json").write_text('[{"name": "b", "attributes": {}, "opposite": null}]')
    assert ClassTable.read(None, tmp_path / "classes.json").labels == ("b",)
    entries = [ListEntry("a.mp4", tmp_path / "a.mp4", label) for label in (UNKNOWN, 2, 0)]
    assert ClassTable.numbered(entries) == ClassTable(("class_0", "class_1", "class_2"))


def test_label_beyond_the_classes_is_named(tmp_path: Path) -> None:
    entries = [ListEntry("a.mp4", tmp_path / "a.mp4", label) for label in (1, 2)]
    ClassTable(("a", "b", "c")).check(entries, Path("train.csv"))
    with pytest.raises(ClassesError, match=r"train\.csv has label 2, but there are 2 classes, 0 to 1"):
        ClassTable(("a", "b")).check(entries, Path("train.csv"))
