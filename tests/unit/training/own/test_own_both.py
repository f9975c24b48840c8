"""Classes that need frames and joints: neither stream tells all of them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from small_videos import encode
from stick_figures import figure, store

from sefar_serve.engine.onnx import OnnxModel
from sefar_serve.pose.fake import FakeEstimator
from sefar_training.data import JointCache, default_joints_folder
from sefar_training.own import Made, Options, run_own
from sefar_training.own.candidates import BOTH_LINEAR, JOINTS_LINEAR, Recipes
from sefar_training.own.choose import choose
from sefar_training.own.compare import Comparison, OneStreamError
from sefar_training.start import Prepared, prepare

LABELS = ("raise slowly", "lower slowly", "raise fast", "lower fast")


def collection(root: Path, labels: tuple[str, ...]) -> Prepared:
    """48 clips in four places: joints tell whether arms are raised, pictures how fast they get brighter."""
    files = []
    for i in range(48):
        files.append(encode(root / f"clip{i:02d}.mp4", 12, brightness=i, step=1 + 11 * (i % 4 > 1)))
    rng = np.random.default_rng(0)
    store(JointCache(default_joints_folder(root), FakeEstimator()), files, [figure(rng, i % 2) for i in range(48)])
    with (root / "clips.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", "group", "split"])
        for i, one in enumerate(files):
            place = i // 4 % 4
            table.writerow([one.name, labels[i % 4], f"place{place}", {0: "val", 1: "test"}.get(place, "train")])
    return prepare(root / "clips.csv", root=root, progress=False)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """A small image network with random weights."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "lite0.pth"
    torch.save(timm.create_model("tf_efficientnet_lite0").state_dict(), file)
    return f"init={file}", "model.size=32", "linear.views=1"


@pytest.fixture(scope="module")
def made(weights: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> tuple[Made, list[str]]:
    prepared = collection(tmp_path_factory.mktemp("both"), LABELS)
    said: list[str] = []
    options = Options(tmp_path_factory.mktemp("runs") / "arms", minutes=0, overrides=weights)
    return run_own(prepared, options, said.append, FakeEstimator(), progress=False), said


def test_both_streams_are_chosen_where_neither_tells_all_classes(made: tuple[Made, list[str]]) -> None:
    choice = made[0].choice
    assert choice.chosen == BOTH_LINEAR
    reached = {trial.candidate.key: trial.new_places for trial in choice.trials}
    both = reached["both-linear"]
    assert both is not None and not np.isnan(both.probabilities).any()
    assert np.allclose(both.probabilities.sum(axis=1), 1)
    assert all(both.accuracy > one.accuracy + 0.2 for key, one in reached.items() if one and key != "both-linear")
    assert any(line.startswith("joints have weight 0.") for line in made[1])


def test_the_joined_file_knows_the_users_names_and_the_familiarity(made: tuple[Made, list[str]]) -> None:
    facts = made[0].facts
    about = OnnxModel(facts.onnx, device="cpu").metadata
    assert (about.name, about.dataset, about.stream) == ("arms", "arms", "both")
    assert set(about.labels) == set(LABELS)
    assert about.sample_frames == (1,) * 8
    assert about.pose_weight is not None and 0 < about.pose_weight < 1
    assert about.familiarity is not None and about.familiarity.method == "min(knn5, knn5)"
    assert facts.test is not None and facts.test.clips == 12 and facts.test.top1 > 0.7
    assert sorted(path.name for path in facts.checkpoint.iterdir() if path.is_dir()) == ["frames", "joints"]
    card = made[0].card.read_text(encoding="utf-8")
    assert f"(joints have weight {about.pose_weight:g}, frames {1 - about.pose_weight:g})" in card
    assert "frames of a clip, and joints of the persons in it" in card
    assert "Frames and joints are measured each, and the lower value counts" in card
    assert facts.serve in made[0].report.read_text(encoding="utf-8")


def test_a_stream_that_adds_nothing_is_left_out(weights: tuple[str, ...], tmp_path: Path) -> None:
    prepared = collection(tmp_path, ("raise", "lower", "raise", "lower"))
    (tmp_path / "labels.txt").write_text("lower\nraise\n")
    recipes = Recipes(prepared, tmp_path / "labels.txt", "arms", weights)
    compared = Comparison(prepared, recipes, tmp_path / "trials", FakeEstimator(), progress=False)
    choice = choose(compared, [JOINTS_LINEAR, BOTH_LINEAR], [], lambda line: None, minutes=0)
    assert choice.chosen == JOINTS_LINEAR
    assert "logistic regression on image features and on joints: frames add nothing to joints." in choice.reasons
    with pytest.raises(OneStreamError):
        compared.trial(BOTH_LINEAR)
