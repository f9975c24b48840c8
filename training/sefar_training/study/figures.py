"""The plots of a study: bars with intervals, η of right and wrong pseudo-labels, attention drawn over frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..sweep.interval import Interval
from .measure import PseudoLabelled

RIGHT, WRONG, NEUTRAL = "#2a7f62", "#c8553d", "#4a6fa5"


def accuracy_bars(accuracies: Mapping[str, Interval], seeds: Mapping[str, Sequence[float]], focus: str) -> Figure:
    """Plot the mean top-1 of each variant with its 95 % interval, and a dot for each seed."""
    figure = Figure(figsize=(7, 0.5 * len(accuracies) + 1), layout="constrained")
    axes = figure.subplots()
    for row, (name, value) in enumerate(accuracies.items()):
        axes.barh(row, value.mean, xerr=value.half, capsize=3, color=RIGHT if name == focus else NEUTRAL, alpha=0.8)
        axes.plot(seeds[name], [row] * len(seeds[name]), "k.", markersize=4)
    axes.set_yticks(range(len(accuracies)), list(accuracies))
    axes.invert_yaxis()
    low = min(min(values) for values in seeds.values())
    axes.set_xlim(max(0, 10 * (low // 10) - 10), None)
    axes.set_xlabel("top-1 on the test split, %")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def eta_distributions(found: PseudoLabelled) -> Figure:
    """Plot the distribution of η over right and over wrong pseudo-labels, each normalised to 100 %."""
    figure = Figure(figsize=(7, 2.8), layout="constrained")
    axes = figure.subplots()
    bins = np.linspace(0, 1, 26).tolist()
    for right, colour, name in ((True, RIGHT, "right"), (False, WRONG, "wrong")):
        eta = found.eta[found.right == right]
        weights = np.full(len(eta), 100 / max(len(eta), 1))
        axes.hist(eta, bins, weights=weights, color=colour, alpha=0.6, label=f"{name} ({len(eta)})")
    axes.set_xlabel("η")
    axes.set_ylabel("share of labels, %")
    axes.legend(loc="upper left", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def accuracy_by_deviation(found: PseudoLabelled, groups: int = 10) -> Figure:
    """Plot the accuracy of pseudo-labels in equal groups of rising deviation, with binomial 95 % intervals."""
    figure = Figure(figsize=(7, 2.8), layout="constrained")
    axes = figure.subplots()
    order = np.array_split(np.argsort(found.deviation), groups)
    deviation = [found.deviation[group].mean() for group in order]
    accuracy = np.array([found.right[group].mean() for group in order])
    half = 1.96 * np.sqrt(accuracy * (1 - accuracy) / [len(group) for group in order])
    axes.errorbar(deviation, 100 * accuracy, yerr=100 * half, fmt="o-", color=NEUTRAL, capsize=3)
    axes.set_xlabel("standard deviation s of the label's probability over Monte-Carlo samples")
    axes.set_ylabel("accuracy, %")
    axes.set_ylim(0, 105)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def attention_sheet(
    rows: Sequence[tuple[str, NDArray[np.uint8], NDArray[np.float32]]], sample_frames: tuple[int, ...]
) -> Figure:
    """Draw the class token's attention over the frames of a few clips, element by element.

    Args:
        rows: for each clip a title, its frames uint8 (F,H,W,3) in element order, and attention (F,N).
        sample_frames: frames per element, context last.
    """
    count = sum(sample_frames)
    names = [f"fine {e + 1}" for e, n in enumerate(sample_frames[:-1]) for _ in range(n)]
    names += ["context"] * sample_frames[-1]
    figure = Figure(figsize=(1.15 * count, 1.6 * len(rows)), layout="constrained")
    strips = np.atleast_1d(figure.subfigures(len(rows), 1))
    highest = max(float(attention.max()) for _, _, attention in rows)
    for (title, frames, attention), strip in zip(rows, strips, strict=True):
        strip.suptitle(title, fontsize=10, x=0.01, horizontalalignment="left")
        side = round(attention.shape[1] ** 0.5)
        for position, axes in enumerate(strip.subplots(1, count, squeeze=False)[0]):
            frame = frames[position]
            heat = cv2.resize(
                attention[position].reshape(side, side), frame.shape[1::-1], interpolation=cv2.INTER_CUBIC
            )
            axes.imshow(frame)
            axes.imshow(heat, cmap="magma", alpha=0.55, vmin=0, vmax=highest)
            axes.set_axis_off()
            axes.set_title(names[position], fontsize=8)
    return figure
