"""A data set on disk: complete, split cleanly, resumable, the same for any number of processes."""

from __future__ import annotations

import json
import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sefar_training.synthgym import (
    CLASSES,
    POSE_NAMES,
    DatasetExistsError,
    clip_seed,
    render_clip,
    write_dataset,
)
from sefar_training.synthgym.dataset import POSE_COLUMNS

COUNTS = {"train": 5, "val": 1, "test": 1}
SEED = 0
RATES = (5, 10, 20, 100)


def read_list(root: Path, rate: int, part: str) -> list[tuple[str, int]]:
    lines = (root / "lists" / f"synthgym_{rate}" / f"{part}.csv").read_text().splitlines()
    return [(path, int(label)) for path, label in (line.split(" ") for line in lines)]


def test_names_attributes_and_captions_cover_every_class_and_clip(small_gym: Path) -> None:
    assert (small_gym / "labels.txt").read_text().splitlines() == [action.name for action in CLASSES]
    described = json.loads((small_gym / "classes.json").read_text())
    assert [entry["name"] for entry in described] == [action.name for action in CLASSES]
    assert [entry["attributes"] for entry in described] == [action.attributes for action in CLASSES]
    for entry, action in zip(described, CLASSES, strict=True):
        opposite = None if entry["opposite"] is None else described[entry["opposite"]]["name"]
        assert opposite == action.opposite
    captions = json.loads((small_gym / "captions.json").read_text())
    assert set(captions) == {path for part in COUNTS for path, _ in read_list(small_gym, 100, part)}
    assert all(captions.values())


@pytest.mark.parametrize("rate", RATES)
def test_lists_are_stratified_and_their_files_exist(small_gym: Path, rate: int) -> None:
    labelled = max(1, round(COUNTS["train"] * rate / 100))
    rest = COUNTS["train"] if rate == 100 else COUNTS["train"] - labelled
    for part, count in (("train", labelled), ("unlabel", rest), ("val", 1), ("test", 1)):
        entries = read_list(small_gym, rate, part)
        numbers = np.bincount([label for _, label in entries], minlength=len(CLASSES))
        assert (numbers == count).all(), part
        for path, label in entries:
            assert (small_gym / path).is_file()
            assert Path(path).name.startswith(f"{label:02d}_")


@pytest.mark.parametrize("rate", RATES)
def test_parts_are_disjoint(small_gym: Path, rate: int) -> None:
    names = ("train", "val", "test") if rate == 100 else ("train", "unlabel", "val", "test")
    parts = [{path for path, _ in read_list(small_gym, rate, name)} for name in names]
    assert all(one.isdisjoint(other) for one, other in combinations(parts, 2))
    every = {path for path, _ in read_list(small_gym, 100, "train")}
    assert (parts[0] | parts[1] if rate != 100 else parts[0]) == every
    # More labels are a superset of fewer.
    if rate != 5:
        fewer = {path for path, _ in read_list(small_gym, RATES[RATES.index(rate) - 1], "train")}
        assert fewer <= parts[0]


@pytest.mark.parametrize("split", COUNTS)
def test_poses_are_those_of_the_drawn_frames(small_gym: Path, split: str) -> None:
    with np.load(small_gym / "poses" / f"{split}.npz") as poses:
        assert tuple(poses[POSE_COLUMNS]) == POSE_NAMES
        assert set(poses.files) - {POSE_COLUMNS} == {path for path, _ in read_list(small_gym, 100, split)}
        for action in CLASSES[::11]:
            name = f"videos/{split}/{action.index:02d}_0000.mp4"
            clip = render_clip(action, clip_seed(SEED, split, action, 0), "easy")
            assert poses[name].shape == (len(clip.frames), len(POSE_NAMES))
            np.testing.assert_array_equal(poses[name], clip.pose.astype(np.float16))


def test_sheets_are_there_for_every_class(small_gym: Path) -> None:
    names = {path.name for path in (small_gym / "sheets").iterdir()}
    assert names == {f"{action.index:02d}.png" for action in CLASSES} | {"overview.png"}


def contents(root: Path, *, videos: bool) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and (path.suffix == ".mp4" or "sheets" in path.parts) == videos
    }


def test_two_processes_write_the_same_lists_and_poses(small_gym: Path, small_gym_by_two: Path) -> None:
    assert contents(small_gym, videos=False) == contents(small_gym_by_two, videos=False)


def test_two_processes_write_the_same_videos(small_gym: Path, small_gym_by_two: Path) -> None:
    one, two = contents(small_gym, videos=True), contents(small_gym_by_two, videos=True)
    assert [name for name in one if one[name] != two.get(name)] == []
    assert set(one) == set(two)


def test_interrupted_run_resumes(small_gym: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    shutil.copytree(small_gym, out)
    gone = out / "videos" / "val" / "03_0000.mp4"
    kept = out / "videos" / "train" / "00_0000.mp4"
    before = kept.stat().st_mtime_ns
    gone.unlink()
    (out / "labels.txt").unlink()
    write_dataset(out, "easy", SEED, COUNTS, workers=1, progress=False)
    assert gone.is_file() and (out / "labels.txt").is_file()
    assert kept.stat().st_mtime_ns == before
    assert contents(out, videos=False) == contents(small_gym, videos=False)


@pytest.mark.parametrize(("preset", "seed"), [("easy", SEED + 1), ("standard", SEED)])
def test_another_data_set_is_not_overwritten(small_gym: Path, preset: str, seed: int) -> None:
    before = (small_gym / "dataset.json").read_bytes()
    with pytest.raises(DatasetExistsError, match="another folder"):
        write_dataset(small_gym, preset, seed, COUNTS, workers=1, progress=False)
    assert (small_gym / "dataset.json").read_bytes() == before


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DatasetExistsError, match="choose another folder"):
        write_dataset(tmp_path, "easy", 0, COUNTS, workers=1, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_unknown_preset_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="easy, standard"):
        write_dataset(tmp_path / "out", "hard", progress=False)
    assert not (tmp_path / "out").exists()


KEYS = st.tuples(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["train", "val", "test", "routine", "demo"]),
    st.sampled_from(range(len(CLASSES))),
    st.integers(0, 10_000),
)


@given(one=KEYS, other=KEYS)
def test_seeds_of_different_clips_differ(one: tuple[int, str, int, int], other: tuple[int, str, int, int]) -> None:
    assert (clip_seed(*one) == clip_seed(*other)) == (one == other)


def test_an_unknown_split_is_named() -> None:
    with pytest.raises(ValueError, match="trian"):
        clip_seed(0, "trian", 0, 0)
