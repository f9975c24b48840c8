"""Runs the examples about features, on fewer of the clips that they render and extract themselves."""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import matplotlib
import pytest
from feature_folders import GOOD, write_features

EXAMPLES = Path(__file__).parents[2] / "examples"

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run an example with arguments in an empty folder; returns what it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setenv("MPLBACKEND", "agg")
    matplotlib.use("agg")
    import made_features  # type: ignore[import-not-found]  # in the folder of the examples

    monkeypatch.setattr(made_features, "PER_CLASS", 3)

    def run(name: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_the_examples_about_features_run(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = run("linear_probe.py")
    [accuracy] = re.findall(r"linear probe +([0-9.]+) %", probe)
    [chance] = re.findall(r"chance +([0-9.]+) %", probe)
    assert float(accuracy) > 5 * float(chance), probe
    assert "like 18_" in run("similar_clips.py")
    assert not list((tmp_path / "demo/features").glob(".nearest*"))
    assert "like 03_1.mp4" in run("similar_clips.py", "demo/features", "03_1.mp4", "--graph")
    assert list((tmp_path / "demo/features").glob(".nearest*"))
    assert "demo/feature_map.png" in run("feature_map.py")
    assert (tmp_path / "demo/feature_map.png").stat().st_size > 10_000
    with_format = datasets.Dataset.with_format

    def without_torch(rows: datasets.Dataset, kind: str | None = None, **options: Any) -> datasets.Dataset:
        assert kind != "torch", "the extra `examples` has no torch"
        return with_format(rows, kind, **options)

    monkeypatch.setattr(datasets.Dataset, "with_format", without_torch)
    assert "embedding (256,)" in run("features_dataset.py")


def test_a_map_of_few_classes_lists_no_others(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    legends: list[list[str]] = []

    def savefig(figure: matplotlib.figure.Figure, *_: object, **__: object) -> None:
        legends.append([text.get_text() for text in figure.legends[0].get_texts()])

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", savefig)
    run("feature_map.py", str(write_features(tmp_path / "f")))
    [names] = legends
    assert len(names) == 1
    assert "other" not in names[0]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("similar_clips.py", ["nowhere"], "nowhere has no features"),
        ("feature_map.py", ["nowhere"], "nowhere has no features"),
        ("features_dataset.py", ["nowhere"], "nowhere has no features"),
        ("similar_clips.py", ["f", "unknown"], "no good row has the id 'unknown'"),
        ("features_dataset.py", ["npy"], "has no embeddings in its Parquet files"),
        ("linear_probe.py", ["f"], "takes no arguments"),
    ],
)
def test_errors_of_examples_are_one_line(
    tmp_path: Path, run: Run, name: str, arguments: list[str], message: str
) -> None:
    write_features(tmp_path / "f")
    write_features(tmp_path / "npy", format="npy")
    with pytest.raises(SystemExit, match=message) as refused:
        run(name, *arguments)
    assert "\n" not in str(refused.value)


def test_similar_clips_takes_a_folder_and_an_id(tmp_path: Path, run: Run) -> None:
    assert f"like {GOOD[4]} (" in run("similar_clips.py", str(write_features(tmp_path / "f")), GOOD[4])
