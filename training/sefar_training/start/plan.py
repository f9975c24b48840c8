"""What a training on a collection will learn from, choose on and measure on, in sentences."""

from __future__ import annotations

import numpy as np

from sefar_serve.lists import UNKNOWN
from sefar_serve.quantity import quantity

from .prepare import Prepared


def plan_lines(prepared: Prepared) -> list[str]:
    """The plan: which clips are for what, and how the figures are made."""
    splits, folds = prepared.splits, prepared.folds
    plan = "plan: learn from " + quantity(len(splits.train), "labelled clip")
    if len(splits.unlabelled):
        plan += f" and {quantity(len(splits.unlabelled), 'unlabelled one')}"
    others = [f"{use} on {len(of)}" for use, of in (("choose", splits.val), ("measure", splits.test)) if len(of)]
    lines = [f"{plan}; {', '.join(others)}" if others else plan]
    labels = prepared.labels[prepared.labels != UNKNOWN]
    if not len(labels) or np.bincount(labels).max() < 2:
        return [*lines, "nothing is measured, because no class has two clips"]
    if not len(splits.val):
        lines.append("choose by cross-validation of train, since val is empty")
    if folds.count:
        lines.append(
            f"figures: {folds.count} folds of groups for new places, {folds.same_count} random ones for the same places"
        )
    return lines
