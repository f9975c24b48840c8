"""Learning curves from the log of a run."""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from ..evaluation.plots import BLUE, GREY, ORANGE, WIDTH

LOSSES = {"loss": "loss", "loss_sup": "labelled clips", "loss_un": "unlabelled clips", "loss_mix": "mixed clips"}

ACCURACIES = {"accuracy": "training clips", "top1": "val, moving average", "student_top1": "val, student"}

Figures = dict[str, float]


def read_log(file: Path) -> list[Figures]:
    """Read the figures of each epoch; a line that was cut off is left out."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]


def draw_curves(epochs: list[Figures]) -> Figure:
    """Plot losses and accuracies over epochs.

    Args:
        epochs: the figures of each, see `read_log`.
    """
    panels = [
        (title, drawn)
        for title, names in (("loss", LOSSES), ("accuracy", ACCURACIES))
        if (drawn := {key: name for key, name in names.items() if any(key in line for line in epochs)})
    ]
    # Without unlabelled clips the two losses are the same.
    panels = [(title, {k: n for k, n in d.items() if k != "loss_sup" or "loss_un" in d}) for title, d in panels]
    fig = Figure(figsize=(WIDTH, 2.8))
    for axes, (title, drawn) in zip(fig.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for (key, name), colour in zip(drawn.items(), (BLUE, ORANGE, GREY, "#2f9e63"), strict=False):
            points = [(line["epoch"] + 1, line[key]) for line in epochs if key in line]
            axes.plot(*zip(*points, strict=True), color=colour, label=name, linewidth=1.5)
        axes.set(xlabel="epoch", title=title)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
        if title == "accuracy":
            axes.set_ylim(0, 1.02)
            axes.yaxis.set_major_formatter(PercentFormatter(1))
    fig.tight_layout()
    return fig
