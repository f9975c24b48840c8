from __future__ import annotations

import csv
import json
import os
import re
from pathlib import Path

import av
import numpy as np
import pytest
from small_videos import damage, encode
from start_videos import film
from typer.testing import CliRunner

from sefar_serve.cli import app
from sefar_serve.lists import read_list
from sefar_training.start import CollectionError, prepare, write_prepared
from sefar_training.start.look import cache_folder


def init(*arguments: str | Path, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["init", *map(str, arguments), "--workers", "1"])
    assert done.exit_code == code, done.output
    return done.stdout


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Two classes in four places."""
    for movement, label in enumerate(("left", "right")):
        for place in range(4):
            for take in "ab":
                film(tmp_path / "clips" / label / f"hall {place}" / f"{take}.mp4", 4 * movement, place, seed=ord(take))
    return tmp_path / "clips"


def test_from_a_folder_to_lists(clips: Path, tmp_path: Path) -> None:
    (clips / "left" / "hall 0" / "broken.mp4").write_text("no video")
    out = tmp_path / "run"
    printed = init(clips, "--out", out)
    assert "clips (format: folders): 16 clips, 2 classes" in printed
    assert "groups: 4, as given" in printed
    assert "left out: left/hall 0/broken.mp4: the file is not a video" in printed
    assert "sefar train" in printed
    assert (out / "labels.txt").read_text() == "left\nright\n"
    lists = {name: read_list(out / "lists" / f"{name}.csv", clips) for name in ("train", "val", "test")}
    assert {name: len(entries) for name, entries in lists.items()} == {"train": 8, "val": 4, "test": 4}
    assert all(entry.path.is_file() for entries in lists.values() for entry in entries)
    places = [{entry.name.split("/")[1] for entry in entries} for entries in lists.values()]
    assert sum(map(len, places)) == len(set.union(*places))
    with (out / "clips.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16
    assert {row["group"] for row in rows} == {f"hall {place}" for place in range(4)}
    assert {row["fold_new_places"] for row in rows} == {"0", "1", "2", "3"}
    found = json.loads((out / "found.json").read_text())
    assert (found["trainable"], found["left_out"], found["splits"]["train"]) == (True, 1, 8)
    # What was written is read back, with its splits and groups.
    again = prepare(out / "clips.csv", root=clips, progress=False)
    assert again.splits.given
    assert again.groups.count == 4
    assert len(again.splits.val) == 4


def test_broken_files_are_left_out_each_with_its_reason(clips: Path) -> None:
    good = encode(clips / "good.mp4", all_keys=True)
    folder = clips / "left" / "hall 0"
    (folder / "text.mp4").write_text("no video")
    (folder / "empty.mp4").touch()
    (folder / "cut.mp4").write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    with av.open(folder / "sound.mp4", "w") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 44100
        container.mux([*stream.encode(sound), *stream.encode(None)])
    # Its first, middle and last frames decode; joints and features need the others too.
    damage(encode(folder / "holes.mp4", all_keys=True), {3, 4, 5, 6})
    (folder / "gone.mp4").symlink_to("nowhere.mp4")
    good.unlink()
    found = prepare(clips, progress=False, threads=1)
    assert len(found.rows) == 16 and found.trainable
    reasons = {left.row.name.rpartition("/")[2]: left.reason for left in found.left_out}
    for name, told in {
        "text.mp4": "is not a video file",
        "empty.mp4": "is empty",
        "cut.mp4": "truncated or damaged|does not decode",
        "sound.mp4": "has no video stream",
        "holes.mp4": "frame 3 of the file does not decode",
        "gone.mp4": "does not exist",
    }.items():
        assert re.search(told, reasons.pop(name))
    assert not reasons


def test_few_labels_of_each_class(clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    found = json.loads(init(clips, "--out", out, "--labels-per-class", "2", "--json"))
    assert found["splits"] == {"train": 4, "val": 4, "test": 4, "unlabelled": 4}
    unlabelled = read_list(out / "lists" / "unlabel.csv", clips, unlabelled=True)
    assert {entry.label for entry in unlabelled} == {0, 1}  # kept to count right pseudo-labels


def test_no_labels_say_what_is_missing(tmp_path: Path) -> None:
    for place in range(3):
        film(tmp_path / "clips" / f"{place}.mp4", place=place)
    out = tmp_path / "run"
    printed = init(tmp_path / "clips", "--out", out, code=1)
    assert "problem: no clip has a label" in printed
    assert f"next: label clips in {out}/clips.csv" in printed
    assert not list((out / "lists").iterdir())
    text = (out / "clips.csv").read_text().replace("0.mp4,", "0.mp4,a", 1).replace("1.mp4,", "1.mp4,b", 1)
    (out / "clips.csv").write_text(text)
    printed = init(out / "clips.csv", "--root", tmp_path / "clips", "--out", tmp_path / "other")
    assert "2 classes, 1 of them without a label" in printed


def test_spans_of_long_videos(tmp_path: Path) -> None:
    root = tmp_path / "videos"
    for place in range(4):
        film(root / f"{place}.mp4", place, place, frames=100)
    lines = [f"{v}.mp4,{label},{n},{n + 0.8}" for v in range(4) for n, label in enumerate(("up", "down", "up", "down"))]
    (root / "spans.csv").write_text("path,label,start,end\n" + "\n".join(lines) + "\n9.mp4,up,1,2\n3.mp4,up,50,51\n")
    out = tmp_path / "run"
    printed = init(root, "--out", out)
    assert "16 clips in 4 videos" in printed
    assert "next: sefar train --data" in printed
    assert "left out: 9.mp4#t=1,2: the file does not exist" in printed
    assert "left out: 3.mp4#t=50,51: span begins at 50.0 s" in printed
    train = read_list(out / "lists" / "train.csv", root)
    assert all(entry.is_span and entry.end == (entry.start or 0) + 0.8 for entry in train)
    videos = [{e.name for e in read_list(out / "lists" / f"{name}.csv", root)} for name in ("train", "val", "test")]
    assert sum(map(len, videos)) == 4


def test_a_class_that_vanishes_is_an_error(clips: Path, tmp_path: Path) -> None:
    (clips / "up").mkdir()
    (clips / "up" / "a.mp4").write_text("no video")
    with pytest.raises(CollectionError, match=r"no clip of 1 class can be used: up(.|\n)*up/a.mp4: the file is not"):
        prepare(clips, progress=False)
    assert not (tmp_path / "run").exists()


def test_nothing_that_can_be_used(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.mp4").write_text("no video")
    with pytest.raises(CollectionError, match="none of 2 clips can be used"):
        prepare(tmp_path, progress=False)


def test_copies_and_two_labels(clips: Path) -> None:
    source = clips / "left" / "hall 0" / "a.mp4"
    for target in ("left/hall 3/copy.mp4", "right/hall 1/wrong.mp4"):
        (clips / target).write_bytes(source.read_bytes())
    found = prepare(clips, progress=False, threads=1)
    assert {left.row.name: left.reason for left in found.left_out} == {
        "left/hall 3/copy.mp4": "it is a copy of left/hall 0/a.mp4",
        "right/hall 1/wrong.mp4": "it is listed as left too, as left/hall 0/a.mp4",
    }
    assert next(f.text for f in found.findings if f.code == "two_labels").startswith("1 clip has two labels")


def test_given_splits_that_share_a_place(tmp_path: Path) -> None:
    for split, places in (("train", range(4)), ("test", (1,))):
        for movement, label in enumerate(("left", "right")):
            for place in places:
                film(tmp_path / split / label / f"hall{place}" / "a.mp4", 4 * movement, place, seed=len(split))
    [leak] = [f for f in prepare(tmp_path, progress=False, threads=1).findings if f.code == "split_leaks"]
    assert "train and test share 1 group, e.g. hall1; 2 of 2 test clips" in leak.text


def test_long_tail_and_tiny_classes(tmp_path: Path) -> None:
    for place in range(20):
        film(tmp_path / "common" / f"p{place % 4}" / f"{place}.mp4", 0, place % 4, seed=place, frames=8)
    film(tmp_path / "rare" / "p0" / "x.mp4", 1, 0, frames=8)
    found = {f.code: f.text for f in prepare(tmp_path, progress=False, threads=1).findings}
    assert "rare (1)" in found["few_clips"]
    assert "common has 20 clips, rare has 1" in found["long_tail"]
    assert found["one_group"].startswith("1 class comes from one group only: rare")
    assert "test has no clip of 1 class: rare" in found["not_in_test"]


def test_a_folder_with_other_files_is_not_replaced(clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "state.pt").write_text("weeks of training")
    with pytest.raises(CollectionError, match=r"has other files, e.g. state.pt"):
        write_prepared(prepare(clips, progress=False, threads=1), out)
    refused = CliRunner().invoke(app, ["init", str(clips), "--out", str(out)])
    assert isinstance(refused.exception, CollectionError)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("run")] == ["run"]
    assert (out / "state.pt").read_text() == "weeks of training"


def test_where_findings_are_kept(tmp_path: Path) -> None:
    assert cache_folder(tmp_path, tmp_path / "run") == tmp_path / ".sefar" / "look"
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    if not os.access(locked, os.W_OK):
        assert cache_folder(locked, tmp_path / "run") == tmp_path / ".sefar" / "look"
