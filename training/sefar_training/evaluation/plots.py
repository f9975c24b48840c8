"""Plots of a report."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import PercentFormatter

from .score import ETA_BINS, EtaFigures, EvaluationReport

BLUE, ORANGE, GREY = "#2563c9", "#d9580d", "#9a9aa5"
WIDTH = 7.0
"""Inches."""

NAMED_CLASSES = 60
"""With more classes than this, their names do not fit next to bars and matrix rows."""

COUNTED_CLASSES = 16
"""With more classes than this, numbers do not fit into the cells of a matrix."""

NAME = 40
"""Longer names are cut to so many characters."""


def drawn_names(labels: Sequence[str]) -> list[str]:
    r"""Names of classes as a plot can show them.

    Long names are cut, and dollars are escaped, because matplotlib takes what is between two for a formula. A name with
    characters that the font does not have is replaced by its number, e.g. ``class 3``.
    """
    font = get_font(findfont(FontProperties()))
    names = [" ".join(label.split()) for label in labels]
    names = [name if len(name) <= NAME else f"{name[: NAME - 1]}…" for name in names]
    known = [all(font.get_char_index(ord(c)) for c in name) for name in names]
    return [
        name.replace("$", r"\$") if ok else f"class {n}" for n, (name, ok) in enumerate(zip(names, known, strict=True))
    ]


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    fig = Figure(figsize=(width, height))
    axes = fig.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return fig, axes


def attribute_bars(report: EvaluationReport) -> Figure:
    """Plot the accuracy of each attribute."""
    fig, axes = _axes(WIDTH, 0.6 + 0.32 * len(report.attributes))
    _bars(axes, list(report.attributes), list(report.attributes.values()))
    return fig


def class_bars(report: EvaluationReport) -> Figure:
    """Plot the accuracy of each class, lowest first; without names if there are too many."""
    classes = sorted(report.per_class.items(), key=lambda item: item[1])
    shown = dict(zip(report.labels, drawn_names(report.labels), strict=True))
    names, values = [shown[name] for name, _ in classes], [value for _, value in classes]
    if len(names) <= NAMED_CLASSES:
        fig, axes = _axes(WIDTH, 0.6 + 0.21 * len(names))
        _bars(axes, names, values)
        return fig
    fig, axes = _axes(WIDTH, 3)
    axes.bar(range(len(values)), values, 1.0, color=BLUE)
    axes.set(xlabel="classes, the lowest first", ylabel="top-1", ylim=(0, 1), xlim=(-0.5, len(values) - 0.5))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    return fig


def _bars(axes: Axes, names: list[str], values: list[float]) -> None:
    """Draw horizontal bars from top to bottom, each labelled with its value."""
    places = list(range(len(names)))
    axes.barh(places, values, 0.72, color=BLUE)
    for place, value in zip(places, values, strict=True):
        axes.text(value + 0.01, place, f"{value:.1%}", va="center", fontsize=8)
    axes.set_yticks(places, names, fontsize=8)
    axes.set(xlim=(0, 1.1), ylim=(len(names) - 0.4, -0.6), xticks=np.linspace(0, 1, 6))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.tick_params(axis="y", length=0)


def reliability_diagram(report: EvaluationReport) -> Figure:
    """Plot accuracy against confidence for each bin, and below it the number of clips in each bin."""
    bins = [b for b in report.calibration if b.confidence is not None]
    fig = Figure(figsize=(WIDTH * 0.75, 4.6))
    upper, lower = fig.subplots(2, sharex=True, height_ratios=(4, 1))
    low, width = [b.low for b in bins], [b.high - b.low for b in bins]
    accuracy = [b.accuracy for b in bins]
    upper.bar(low, accuracy, width, align="edge", color=BLUE, alpha=0.35, edgecolor=BLUE)
    upper.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="perfectly calibrated")
    upper.plot(
        [b.confidence for b in bins], accuracy, "o", color=BLUE, markersize=4, label="accuracy at mean confidence"
    )
    upper.text(0.97, 0.05, f"ECE {report.ece:.3f}", transform=upper.transAxes, ha="right", fontsize=11)
    upper.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.03))
    upper.legend(loc="upper left", fontsize=8, frameon=False)
    lower.bar(low, [b.clips for b in bins], width, align="edge", color=GREY, edgecolor="white")
    lower.set(xlabel="confidence (top-1 probability)", ylabel="clips")
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    fig.align_ylabels()
    return fig


def eta_histograms(eta: EtaFigures) -> Figure:
    """Plot the distribution of η over right and over wrong answers, each normalised to 1."""
    fig, axes = _axes(WIDTH, 3)
    edges = np.linspace(0, 1, ETA_BINS + 1)
    for kind, counts, mean, colour in (
        ("right", eta.right, eta.mean_right, BLUE),
        ("wrong", eta.wrong, eta.mean_wrong, ORANGE),
    ):
        total = sum(counts)
        if not total or mean is None:
            continue
        label = f"{kind} ({total} clips, mean {mean:.2f})"
        axes.stairs(np.array(counts) / total, edges, color=colour, fill=True, alpha=0.3)
        axes.stairs(np.array(counts) / total, edges, color=colour, linewidth=1.5, label=label)
        axes.axvline(mean, color=colour, linestyle=":", linewidth=1.5)
    axes.set(xlabel="η", ylabel="share of answers", xlim=(0, 1))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.legend(loc="upper left", frameon=False, fontsize=9)
    return fig


def confusion_image(report: EvaluationReport) -> Figure:
    """Draw the confusion matrix, normalised per true class; with few classes, its cells have numbers of clips."""
    counts = np.array(report.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    known = len(counts)
    named = known <= NAMED_CLASSES
    side = max(4.0, 0.17 * known) if named else 6.0
    fig = Figure(figsize=(side + 1, side))
    axes = fig.subplots()
    # The mistakes are small shares: a square root makes them visible next to the diagonal.
    norm = matplotlib.colors.PowerNorm(0.5, 0, 1)
    image = axes.imshow(shares, cmap="Blues", norm=norm, interpolation="nearest")
    if named:
        names = drawn_names(report.labels)
        axes.set_xticks(range(known), names, rotation=90, fontsize=7)
        axes.set_yticks(range(known), names, fontsize=7)
        axes.tick_params(length=0)
    if known <= COUNTED_CLASSES:
        for row, column in np.argwhere(counts):
            colour = "white" if shares[row, column] > 0.4 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=7, color=colour)
    axes.set(xlabel="predicted", ylabel="true")
    bar = fig.colorbar(image, ax=axes, fraction=0.046, pad=0.02, ticks=[0, 0.05, 0.2, 0.5, 1])
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1))
    bar.outline.set_visible(False)
    return fig
