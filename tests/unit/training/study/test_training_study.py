from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import yaml

from sefar_training.data import ListEntry
from sefar_training.recipe import RecipeError
from sefar_training.study import StudyError, find_study, load_study, run_study, write_study
from sefar_training.study.measure import Prober, probe_order
from sefar_training.study.plan import STUDIES, plan_study, split_labels
from sefar_training.sweep.run import SweepError

ENTRIES = [
    ListEntry(f"clips/{label}_{n}.mp4", Path(f"clips/{label}_{n}.mp4"), label) for label in range(3) for n in range(20)
]


def test_labels_are_drawn_class_by_class_and_by_seed() -> None:
    labelled, unlabelled = split_labels(ENTRIES, 10, seed=0)
    assert Counter(entry.label for entry in labelled) == {0: 2, 1: 2, 2: 2}
    assert sorted(e.name for e in labelled + unlabelled) == sorted(e.name for e in ENTRIES)
    assert split_labels(ENTRIES, 10, seed=0)[0] == labelled
    assert split_labels(ENTRIES, 10, seed=1)[0] != labelled
    assert len(split_labels(ENTRIES, 0.1, seed=0)[0]) == 3


def test_probes_reorder_what_they_say() -> None:
    assert probe_order((2, 2, 4), "none").tolist() == list(range(8))
    assert probe_order((2, 2, 4), "moderate").tolist() == [1, 0, 3, 2, 4, 5, 6, 7]
    assert probe_order((2, 2, 4), "context").tolist() == [0, 1, 2, 3, 7, 6, 5, 4]
    assert probe_order((2, 2, 4), "reverse-all").tolist() == [1, 0, 3, 2, 7, 6, 5, 4]
    assert probe_order((2, 2, 4), "exchange").tolist() == [2, 3, 0, 1, 4, 5, 6, 7]
    assert probe_order((2, 2, 2, 4), "exchange").tolist() == [4, 5, 0, 1, 2, 3, 6, 7, 8, 9]


def test_studies_that_ship_fit_their_recipes(tmp_path: Path) -> None:
    (tmp_path / "lists/synthgym_100").mkdir(parents=True)
    lines = "".join(f"{entry.name} {entry.label}\n" for entry in ENTRIES)
    (tmp_path / "lists/synthgym_100/train.csv").write_text(lines)
    for file in STUDIES.glob("*.yaml"):
        assert find_study(file.stem) == file
        study = load_study(file)
        runs = plan_study(study, tmp_path / "out", [f"data.root={tmp_path}"])
        assert len(runs) == len(study.seeds) * len(study.variants)
        assert len({run.config.out for run in runs}) == len(runs)
        for seed in study.seeds:
            same = [run.config for run in runs if run.seed == seed]
            assert len({(c.data.train, c.data.unlabel, c.optim, c.init, c.seed) for c in same}) == 1


def test_linear_models_are_not_studied(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("".join(f"{entry.name} {entry.label}\n" for entry in ENTRIES))
    (tmp_path / "recipe.yaml").write_text(f"method: linear\nout: runs\ndata: {{root: {tmp_path}, train: train.csv}}\n")
    file = tmp_path / "study.yaml"
    file.write_text("title: x\nrecipe: recipe.yaml\nlabels: 10\nseeds: [0]\nvariants: {a: {}}\nbaseline: a\nfocus: a\n")
    with pytest.raises(StudyError, match="leave out method linear"):
        plan_study(load_study(file), tmp_path / "out")


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no study 'nope'; give a YAML file, or one of: synthgym"):
        find_study("nope")
    file = tmp_path / "study.yaml"
    file.write_text("title: x\nrecipe: r.yaml\nlabels: 10\nseeds: [0]\nvariants: {a: {}}\nbaseline: a\nfocus: b\n")
    with pytest.raises(RecipeError, match="'b' is none of the variants a"):
        load_study(file)
    file.write_text("- 1\n")
    with pytest.raises(RecipeError, match="top level must be a mapping"):
        load_study(file)


@pytest.fixture(scope="module")
def small_study(small_gym: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("study")
    recipe = {
        "out": str(root / "unused"),
        "model": {
            "architecture": {"patch": 16, "dim": 24, "depth": 2, "heads": 3, "stem": "patch"},
            "size": 32,
            "resize": 32,
        },
        "data": {
            "root": str(small_gym),
            "train": "lists/synthgym_100/train.csv",
            "unlabel": "lists/synthgym_100/unlabel.csv",
            "test": "lists/synthgym_100/test.csv",
            "classes": "classes.json",
            "cache_gb": 1,
        },
        "optim": {"epochs": 2, "steps_per_epoch": 2, "batch_size": 4, "precision": "fp32"},
        "semi": {"batch_size": 4, "start_epoch": 1},
    }
    (root / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    study = {
        "title": "A study of nothing",
        "note": "How it was set up",
        "recipe": "recipe.yaml",
        "labels": 25,
        "seeds": [0, 1],
        "variants": {
            "supervised": {"method": "supervised"},
            "sefar": {"method": "sefar"},
            "sefar, none": {"method": "sefar", "semi.perturbation": "none"},
        },
        "baseline": "supervised",
        "focus": "sefar",
    }
    (root / "study.yaml").write_text(yaml.safe_dump(study))
    return root


def test_study_trains_each_run_once_and_writes_one_page(small_study: Path, tmp_path: Path) -> None:
    study = load_study(small_study / "study.yaml")
    runs = run_study(study, tmp_path, jobs=2, progress=False)
    stamps = {run.checkpoint: run.checkpoint.stat().st_mtime_ns for run in runs}
    assert len(stamps) == 6
    again = run_study(study, tmp_path, jobs=2, progress=False)
    assert {run.checkpoint: run.checkpoint.stat().st_mtime_ns for run in again} == stamps

    figures, page = write_study(study, runs, tmp_path)
    found = json.loads(figures.read_text())
    assert set(found["methods"]) == {"supervised", "sefar"}
    assert set(found["ablation"]) == {"moderate", "none"}
    assert len(found["eta"]["test clips"]["auroc"]) == 2
    assert set(found["direction"]) == {"none", "moderate", "context", "reverse-all", "exchange"}
    text = page.read_text()
    assert "A study of nothing" in text
    assert "How it was set up" in text
    assert text.count("<img") == 5
    methods_only = {name: study.variants[name] for name in ("supervised", "sefar")}
    theirs = [run for run in runs if run.variant in methods_only]
    figures, _ = write_study(study.model_copy(update={"variants": methods_only}), theirs, tmp_path)
    assert not {"ablation", "spatial_only"} & set(json.loads(figures.read_text()))

    assert "http" not in text.replace("http-equiv", "").replace("http://www.w3.org", "")

    # Clip by clip, some of these batches hold no clip of an opposite pair.
    prober = Prober(theirs[0])
    [(frames, labels)] = prober.clips(theirs[0].config.data.test)
    one_by_one = prober.probe([(frames[i : i + 1], labels[i : i + 1]) for i in range(len(labels))])
    assert one_by_one == prober.probe([(frames, labels)])


def test_failed_training_is_named_with_its_log(small_study: Path, tmp_path: Path) -> None:
    study = load_study(small_study / "study.yaml")
    with pytest.raises(SweepError, match=r"6 of 6 trainings failed; see .*train\.log"):
        run_study(study, tmp_path, ["init=/nowhere"], jobs=2, progress=False)
    log = tmp_path / "runs/supervised/0/train.log"
    assert "/nowhere" in log.read_text()


def test_wrong_overrides_are_reported_before_anything_runs(small_study: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="epochs"):
        run_study(load_study(small_study / "study.yaml"), tmp_path, ["optim.epochs=0"], progress=False)
