"""From a folder of clips to a model, with joints of a fake estimator."""

from __future__ import annotations

import csv
import logging
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_videos import encode
from stick_figures import figure, store

from sefar_serve.errors import SefarError
from sefar_serve.pose.fake import FakeEstimator
from sefar_serve.reliability import reliabilities
from sefar_training.config import load_recipe
from sefar_training.data import JointCache, default_joints_folder
from sefar_training.evaluation import onnx_predictor
from sefar_training.export import MC_SAMPLES
from sefar_training.loop import RunFolder, Watch
from sefar_training.own import CANDIDATES, NothingToTryError, Options, RunExistsError, check_changes, run_own
from sefar_training.own import compare as own_compare
from sefar_training.own import run as own_run
from sefar_training.own.candidates import JOINTS_LINEAR, JOINTS_NETWORK, JOINTS_SEFAR, Recipes, find_candidates
from sefar_training.own.choose import choose
from sefar_training.own.compare import Comparison, OutOfTimeError
from sefar_training.own.trial import Candidate, Trial, judge
from sefar_training.recipe import RecipeError
from sefar_training.start import Prepared, prepare

SHORT = ("optim.epochs=2", "optim.steps_per_epoch=2", "optim.precision=fp32", "optim.warmup_epochs=0")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 32 clips, raised and lowered arms, in four places, whose joints are found already."""
    root = tmp_path_factory.mktemp("figures")
    files = [root / f"clip{i:02d}.mp4" for i in range(32)]
    for i, file in enumerate(files):
        encode(file, frames=8, brightness=5 * i)
    rng = np.random.default_rng(0)
    store(JointCache(default_joints_folder(root), FakeEstimator()), files, [figure(rng, i % 2) for i in range(32)])
    with (root / "clips.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", "group"])
        table.writerows([one.name, ("raise", "lower")[i % 2], f"place{i // 2 % 4}"] for i, one in enumerate(files))
    return root


@pytest.fixture(scope="module")
def prepared(clips: Path) -> Prepared:
    return prepare(clips / "clips.csv", root=clips, progress=False)


def comparison(prepared: Prepared, folder: Path, *overrides: str) -> Comparison:
    labels = folder / "labels.txt"
    labels.write_text("".join(f"{name}\n" for name in prepared.classes))
    recipes = Recipes(prepared, labels, "figures", overrides)
    return Comparison(prepared, recipes, folder / "trials", FakeEstimator(), progress=False)


def test_a_folder_becomes_a_model(prepared: Prepared, tmp_path: Path) -> None:
    said: list[str] = []
    out = tmp_path / "my figures"
    options = Options(out, "pose", minutes=0)
    made = run_own(prepared, options, said.append, FakeEstimator(), progress=False)
    assert made.choice.chosen == JOINTS_LINEAR
    trial = made.choice.trial
    assert trial is not None and trial.new_places is not None
    assert trial.new_places.accuracy > 0.9
    assert "temporal convolutions over joints: not tried" in " ".join(said)
    _, about = onnx_predictor(made.facts.onnx)
    assert (about.name, about.dataset, set(about.labels)) == ("my figures", "my figures", {"raise", "lower"})
    for file in (made.facts.onnx, made.card, out / "recipe.yaml"):
        assert b"synthgym" not in file.read_bytes().lower()
        assert b"raise" in file.read_bytes() or file.suffix == ".yaml"
    assert str(out).encode() not in made.facts.onnx.read_bytes()  # no paths of this machine either
    assert {path.name for path in out.iterdir()} == {
        "MODEL_CARD.md", "clips", "model.onnx", "recipe.yaml", "report.html", "training"
    }  # fmt: skip
    assert load_recipe(out / "recipe.yaml").data.train == out / "clips" / "lists" / "train.csv"
    with pytest.raises(RunExistsError, match="resume it with --resume"):
        run_own(prepared, options, said.append, FakeEstimator(), progress=False)
    again = run_own(prepared, replace(options, resume=True), said.append, FakeEstimator(), progress=False)
    assert again.choice.chosen == JOINTS_LINEAR


def test_ctrl_c_in_the_last_training_keeps_the_best_epoch(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log = RunFolder.log

    def interrupted(folder: RunFolder, line: dict[str, object]) -> None:
        log(folder, line)
        if folder.path == tmp_path / "run" / "training" and line["epoch"] == 1:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(RunFolder, "log", interrupted)
    monkeypatch.setattr(own_run, "find_candidates", lambda *_: ([JOINTS_NETWORK], []))
    options = Options(tmp_path / "run", "pose", overrides=("optim.epochs=4", *SHORT[1:]))
    with caplog.at_level(logging.INFO):
        made = run_own(prepared, options, lambda line: None, FakeEstimator(), progress=False)
    assert "stopped by Ctrl-C" in caplog.text and "the weights of epoch 1 of 4 are kept" in caplog.text
    assert len((tmp_path / "run" / "training" / "log.jsonl").read_text().splitlines()) == 2
    assert onnx_predictor(made.facts.onnx)[1].labels == prepared.classes
    assert made.report.is_file() and made.card.is_file()


def test_new_places_are_judged_by_models_that_have_not_seen_them(prepared: Prepared, tmp_path: Path) -> None:
    compared = comparison(prepared, tmp_path)
    for learned, held in compared._cuts(prepared.folds.new_places):
        assert not set(prepared.groups.of[learned]) & set(prepared.groups.of[held])
    hidden = replace(prepared, labels_per_class=2, splits=replace(prepared.splits, train=np.array([0, 1, 2, 3])))
    for learned, held in comparison(hidden, tmp_path)._cuts(prepared.folds.new_places):
        assert set(learned.tolist()) <= {0, 1, 2, 3}
        assert len(held) == 8  # judged on all of the fold's clips, also those whose labels are not learned from


def test_a_class_of_one_place_is_not_judged_in_new_places(prepared: Prepared, tmp_path: Path) -> None:
    places = prepared.groups.of
    alone = replace(prepared, labels=np.where(places == 0, 1, np.where(np.arange(len(places)) % 2, 0, 2)))
    cuts = list(comparison(alone, tmp_path)._cuts(alone.folds.new_places))
    assert len(cuts) == prepared.folds.count - 1
    assert {int(label) for _, held in cuts for label in alone.labels[held]} == {0, 2}
    same = list(comparison(alone, tmp_path)._cuts(alone.folds.same_places))
    assert {int(label) for _, held in same for label in alone.labels[held]} == {0, 1, 2}


def test_trainings_are_kept_and_not_begun_without_time(prepared: Prepared, tmp_path: Path) -> None:
    compared = comparison(prepared, tmp_path, *SHORT)
    trial = compared.trial(JOINTS_NETWORK)
    assert trial.new_places is not None and not np.isnan(trial.new_places.probabilities).any()
    kept = sorted((tmp_path / "trials").iterdir())
    assert len(kept) == prepared.folds.count + prepared.folds.same_count
    again = compared.trial(JOINTS_NETWORK)
    assert again.new_places is not None
    assert np.array_equal(again.new_places.probabilities, trial.new_places.probabilities)
    assert sorted((tmp_path / "trials").iterdir()) == kept
    other = comparison(prepared, tmp_path, *SHORT[:1], "optim.lr=0.01")
    with pytest.raises(OutOfTimeError, match="not tried, the time for networks is over"):
        other.trial(JOINTS_NETWORK, deadline=time.monotonic() - 1)


def test_a_training_stops_when_the_time_is_over(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = comparison(prepared, tmp_path, *SHORT)
    begun: list[int] = []

    def training(self: Comparison, candidate: Candidate, learned: object, held: np.ndarray, watch: Watch) -> np.ndarray:
        begun.append(len(held))
        if len(begun) == 2:
            compared_clock[0] += 100
        watch(1, 2)
        return np.zeros((len(held), 1 + MC_SAMPLES, 2))

    compared_clock = [0.0]
    monkeypatch.setattr(own_compare.time, "monotonic", lambda: compared_clock[0])
    monkeypatch.setattr(Comparison, "_train", training)
    with pytest.raises(OutOfTimeError, match=r"^stopped after 1 of \d+ trainings: .* one takes about 3 min"):
        compared.trial(JOINTS_NETWORK, deadline=60)
    assert len(begun) == 2
    assert len(list((tmp_path / "trials").iterdir())) == 1


def test_linear_models_have_a_usable_reliability(prepared: Prepared, tmp_path: Path) -> None:
    compared = comparison(prepared, tmp_path)
    trial = compared.trial(JOINTS_LINEAR)
    assert trial.new_places is not None and trial.new_places.mc_logits is not None
    assert np.median(reliabilities(trial.new_places.mc_logits.astype(np.float32))) > 0.5
    found = compared.cross_validated(JOINTS_LINEAR)
    assert found is not None and found.temperature == trial.temperature
    assert len(found.folds) == len(prepared.splits.train)


def test_changes_are_checked_before_anything_is_read() -> None:
    check_changes(["optim.epochs=3", "linear.c=3", "data.joints=features"])
    with pytest.raises(RecipeError, match=r"^nosuch\.key: unknown key"):
        check_changes(["nosuch.key=3"])
    with pytest.raises(RecipeError, match=r"^optim\.epoch: unknown key .* optim\.epochs"):
        check_changes(["optim.epoch=3"])
    with pytest.raises(RecipeError, match=r"^seed=x: seed: 'x' is not"):
        check_changes(["seed=x"])


def test_unlabelled_clips_are_needed_for_sefar(prepared: Prepared) -> None:
    kept, reasons = find_candidates(prepared)
    assert JOINTS_SEFAR not in kept
    assert reasons == [
        "SeFAR on joints, with the unlabelled clips: not tried, with 0 unlabelled clips beside 32 labelled ones."
    ]
    many = replace(prepared, splits=replace(prepared.splits, unlabelled=np.arange(20)))
    assert find_candidates(many)[0] == list(CANDIDATES)
    assert {one.stream for one in find_candidates(many, "rgb")[0]} == {"rgb"}


class Scripted(Comparison):
    """Gives candidates the accuracies that a test wants; an exception instead is raised."""

    results: dict[str, float | BaseException]

    def trial(self, candidate: Candidate, deadline: float = float("inf"), later: int = 0) -> Trial:
        return self._made(candidate, self.results[candidate.key])

    def control(self, candidate: Candidate) -> Trial:
        return self._made(candidate, 0.5)

    def _made(self, candidate: Candidate, wanted: float | BaseException) -> Trial:
        if isinstance(wanted, BaseException):
            raise wanted
        labels = self.prepared.labels
        answers = labels.copy()
        for name in (0, 1):
            wrong = np.flatnonzero(labels == name)[round(wanted * (labels == name).sum()) :]
            answers[wrong] = 1 - name
        judged = judge(np.eye(2)[answers], labels, self.prepared.groups.of)
        return Trial(candidate, judged, judged, 1.0)


def scripted(prepared: Prepared, folder: Path, **results: float | BaseException) -> tuple[str, str]:
    compared = comparison(prepared, folder)
    script = Scripted(prepared, compared.recipes, folder)
    script.results = {key.replace("_", "-"): value for key, value in results.items()}
    candidates = [one for one in CANDIDATES if one.key in script.results]
    choice = choose(script, candidates, [], lambda line: None, minutes=1)
    return choice.chosen.key, " ".join(choice.reasons)


def test_the_best_is_chosen_and_of_equals_the_simplest(prepared: Prepared, tmp_path: Path) -> None:
    assert scripted(prepared, tmp_path, joints_linear=0.75, frames_linear=0.875)[0] == "frames-linear"
    chosen, why = scripted(prepared, tmp_path, joints_linear=0.875, frames_linear=0.875, joints_network=0.875)
    assert chosen == "joints-linear"
    chosen, why = scripted(prepared, tmp_path, joints_linear=0.5625, frames_linear=0.875, joints_network=1.0)
    assert chosen == "frames-linear"
    assert "not tried, because logistic regression on the same input reaches 56%, the best 88%" in why
    assert "may tell the classes by place or posture" in scripted(prepared, tmp_path, joints_linear=0.5)[1]


def test_what_cannot_be_had_is_left_out_and_said(prepared: Prepared, tmp_path: Path) -> None:
    missing = ModuleNotFoundError("ai_edge_litert is not installed")
    chosen, why = scripted(prepared, tmp_path, joints_linear=missing, joints_network=1.0, frames_linear=0.75)
    assert chosen == "frames-linear"
    assert "logistic regression on joints: not tried, ai_edge_litert is not installed" in why
    with pytest.raises(NothingToTryError, match="no weights"):
        scripted(prepared, tmp_path, frames_linear=SefarError("no weights"))


def test_ctrl_c_keeps_what_was_judged(prepared: Prepared, tmp_path: Path) -> None:
    chosen, why = scripted(prepared, tmp_path, joints_linear=0.75, joints_network=KeyboardInterrupt())
    assert chosen == "joints-linear" and "stopped by Ctrl-C" in why
    with pytest.raises(KeyboardInterrupt):
        scripted(prepared, tmp_path, joints_linear=KeyboardInterrupt())
