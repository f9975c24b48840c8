"""Sets of the study of joints, and the draws of labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clip_sets import clip_set

from benchmarks.pose_study.clips import ALL, MOVING, StudyError, read_set
from sefar_serve.lists import ClipKey


def test_a_draw_takes_n_of_each_class_from_the_open_folds() -> None:
    clips = clip_set()
    draw = clips.draw(3, (2,), 0)
    assert np.bincount(clips.labels[draw.labelled]).tolist() == [3, 3]
    assert set(clips.folds[draw.held]) == {2}
    assert set(clips.folds[draw.labelled + draw.unlabelled]) == {0, 1, 3, 4}
    assert sorted(draw.labelled + draw.unlabelled + draw.held) == list(range(len(clips.labels)))


def test_draws_differ_between_numbers_and_folds_and_repeat() -> None:
    clips = clip_set()
    drawn = [clips.draw(3, held, number).labelled for held, number in [((0,), 0), ((0,), 1), ((1,), 0)]]
    assert len({tuple(sorted(each)) for each in drawn}) == 3
    assert clips.draw(3, (0,), 0).labelled == drawn[0]


def test_runs_that_choose_settings_leave_out_two_folds_and_have_other_draws() -> None:
    clips = clip_set(each=40)
    choosing, reported = clips.draw(5, (0, 1), 0), clips.draw(5, (0,), 0)
    assert not {0, 1} & set(clips.folds[choosing.labelled + choosing.unlabelled])
    assert set(clips.folds[choosing.held]) == {0, 1}
    assert set(choosing.labelled) != set(reported.labelled)


def test_fewer_labels_are_part_of_more() -> None:
    clips = clip_set()
    assert set(clips.draw(3, (0,), 0).labelled) < set(clips.draw(5, (0,), 0).labelled)


@pytest.mark.parametrize("count", [ALL, 100])
def test_a_class_gives_at_most_all_it_has(count: int) -> None:
    draw = clip_set().draw(count, (0,), 0)
    assert (len(draw.labelled), draw.unlabelled) == (32, [])


def test_a_manifest_is_read_and_the_room_keeps_its_moving_classes(tmp_path: Path) -> None:
    folder = tmp_path / "real" / "room"
    folder.mkdir(parents=True)
    rows = [f"{label}/{n}.mp4,{label},video{n},{n}" for n, label in enumerate([*MOVING, "fallen", "sitting"])]
    (folder / "manifest.csv").write_text("\n".join(["path,label,group,fold", *rows]))
    clips = read_set("room", tmp_path)
    assert clips.classes == tuple(sorted(MOVING))
    assert [clips.classes[label] for label in clips.labels] == list(MOVING)
    assert clips.fold_numbers == [0, 1, 2, 3, 4]
    assert clips.files[0] == ClipKey(folder / "walk" / "0.mp4")


def test_a_missing_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"tennis/manifest\.csv does not exist; set SEFAR_SHARED_DATA"):
        read_set("tennis", tmp_path)
