"""The examples about features, as they are run: on clips that they render and extract themselves, only fewer."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import matplotlib
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_examples_about_features_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setenv("MPLBACKEND", "agg")
    matplotlib.use("agg")
    import made_features  # type: ignore[import-not-found]  # stands beside the examples

    monkeypatch.setattr(made_features, "PER_CLASS", 3)

    def run(name: str) -> str:
        monkeypatch.setattr(sys, "argv", [name])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    probe = run("linear_probe.py")
    [accuracy] = re.findall(r"linear probe +([0-9.]+) %", probe)
    [chance] = re.findall(r"chance +([0-9.]+) %", probe)
    assert float(accuracy) > 5 * float(chance), probe
    assert "like 18_" in run("similar_clips.py")
    assert "embedding (256,)" in run("features_dataset.py")
    assert "demo/feature_map.png" in run("feature_map.py")
    assert (tmp_path / "demo/feature_map.png").stat().st_size > 10_000
