"""The page of a comparison: a table, and what it says about the claim."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sefar_serve.atomic import atomic_file

from ..markdown import markdown_table
from ..page import Page
from ..sweep.interval import Interval, interval
from .compare import AdapterRun, Comparison
from .measures import AdapterReport, CaptionFigures, Share

HTML, JSON, MARKDOWN = "comparison.html", "comparison.json", "comparison.md"

Finished = Sequence[tuple[AdapterRun, AdapterReport]]

CAPTION_COLUMNS: dict[str, Callable[[CaptionFigures], float | None]] = {
    "attributes right": lambda figures: 100 * figures.mean,
    "all right": lambda figures: 100 * figures.exact.value,
    "stated, wrong": lambda figures: None if figures.wrong is None else 100 * figures.wrong.value,
}


def write_comparison(comparison: Comparison, finished: Finished, out: Path) -> tuple[Path, Path, Path]:
    """Write ``comparison.json``, ``comparison.md`` and ``comparison.html``, each atomically.

    Args:
        comparison: what was compared.
        finished: every run with its report.
        out: folder to write to.

    Returns:
        The three files.
    """
    headers, rows, figures = comparison_table(comparison, finished)
    attribute_headers, attribute_rows = attribute_table(finished)
    claim = claim_text(comparison, finished)
    caption = (
        "Per cent on the test list. Adapters: mean over seeds ± 95 % interval (Student's t). Each classifier is a "
        "single training run; its Wilson intervals over clips are in the reports of the runs."
    )
    page = Page(comparison.title, _lead(comparison, finished))
    if comparison.note:
        page.text(comparison.note)
    page.heading("Results").table(headers, rows, caption)
    page.heading("The claim").text(claim)
    page.heading("By attribute").table(attribute_headers, attribute_rows, "Stated correctly, per cent.")
    markdown = "\n\n".join(
        [markdown_table(headers, rows), claim, markdown_table(attribute_headers, attribute_rows)],
    )
    described = {"title": comparison.title, "seeds": comparison.seeds, "focus": comparison.focus, "rows": figures}
    return (
        _write(out / JSON, json.dumps(described, indent=1, allow_nan=False)),
        _write(out / MARKDOWN, markdown),
        page.write(out / HTML),
    )


def comparison_table(
    comparison: Comparison, finished: Finished
) -> tuple[list[str], list[list[str]], list[dict[str, Any]]]:
    """Headers, rows as displayed, and the figures behind them: one classifier per encoder, then the adapters."""
    sets = list(finished[0][1].questions)
    headers = ["", *CAPTION_COLUMNS, *(f"QA {name}" for name in sets), "QA consistent"]
    rows: list[list[str]] = []
    figures: list[dict[str, Any]] = []

    def add(name: str, cells: Sequence[Interval | None]) -> None:
        rows.append([name, *("–" if cell is None else str(cell) for cell in cells)])
        figures.append({"name": name, **{h: _number(c) for h, c in zip(headers[1:], cells, strict=True)}})

    for name, report in classifiers(comparison, finished):
        captions = [column(report.classifier) for column in CAPTION_COLUMNS.values()]
        asked = [_value(report.questions[s].classifier) for s in sets]
        add(f"classifier, {name}", [_one(value) for value in (*captions, *asked, None)])
    for variant, reports in by_variant(finished):
        captions_over = [_over([column(r.captions) for r in reports]) for column in CAPTION_COLUMNS.values()]
        asked_over = [_over([_value(r.questions[s].adapter) for r in reports]) for s in sets]
        add(f"adapter, {variant}", [*captions_over, *asked_over, _over([_consistency(r, sets) for r in reports])])
    return headers, rows, figures


def attribute_table(finished: Finished) -> tuple[list[str], list[list[str]]]:
    """Headers and rows of the accuracy of each attribute in captions, per variant, averaged over seeds."""
    names = list(finished[0][1].captions.attributes)
    rows = []
    for variant, reports in by_variant(finished):
        cells = [_over([_value(r.captions.attributes[name]) for r in reports]) for name in names]
        rows.append([f"adapter, {variant}", *("–" if cell is None else str(cell) for cell in cells)])
    return ["", *names], rows


def claim_text(comparison: Comparison, finished: Finished) -> str:
    """Say how `focus` differs from every other variant within a seed, and whether the difference is significant."""
    reports = dict(by_variant(finished))
    sentences = []
    for variant, others in reports.items():
        if variant == comparison.focus:
            continue
        gain = interval(
            [100 * (a.captions.mean - b.captions.mean) for a, b in zip(reports[comparison.focus], others, strict=True)]
        )
        if not np.isfinite(gain.half):
            verdict = "a single seed shows nothing about chance"
        elif abs(gain.mean) <= gain.half:
            verdict = "the interval includes zero: no significant difference"
        else:
            verdict = "better" if gain.mean > 0 else "worse"
        sentences.append(
            f"Captions from {comparison.focus} features state {gain} percentage points more attributes correctly than "
            f"from {variant} ({verdict})."
        )
    return " ".join(sentences)


def classifiers(comparison: Comparison, finished: Finished) -> list[tuple[str, AdapterReport]]:
    """One report per encoder; the classifier's figures in it do not depend on the adapter."""
    found: dict[Path, tuple[str, AdapterReport]] = {}
    for run, report in finished:
        found.setdefault(run.config.encoder, (run.variant, report))
    return list(found.values())


def by_variant(finished: Finished) -> list[tuple[str, list[AdapterReport]]]:
    """The reports of each variant, ordered by seed."""
    names = dict.fromkeys(run.variant for run, _ in finished)
    return [(name, [report for run, report in finished if run.variant == name]) for name in names]


def _lead(comparison: Comparison, finished: Finished) -> str:
    recipe = finished[0][0].config
    return (
        f"{len(comparison.seeds)} seeds and {finished[0][1].clips} test clips, on which no adapter or encoder was "
        f"trained. All adapters are trained in the same way: {recipe.projector.steps} steps of the projector, then "
        f"{recipe.together.steps} steps of the whole model, with {recipe.together.batch_size} examples per step. All "
        f"answer the same questions; hard options are classes that the classifier of {comparison.focus} confuses."
    )


def _consistency(report: AdapterReport, sets: Sequence[str]) -> float | None:
    values = [report.questions[name].consistency for name in sets]
    known = [value.value for value in values if value is not None]
    return 100 * float(np.mean(known)) if known else None


def _value(share: Share | None) -> float | None:
    return None if share is None else 100 * share.value


def _one(value: float | None) -> Interval | None:
    return None if value is None else Interval(value, float("nan"))


def _over(values: Sequence[float | None]) -> Interval | None:
    known = [value for value in values if value is not None]
    return interval(known) if len(known) == len(values) else None


def _number(value: Interval | None) -> dict[str, float | None] | None:
    return None if value is None else {"mean": value.mean, "half": value.half if np.isfinite(value.half) else None}


def _write(file: Path, text: str) -> Path:
    with atomic_file(file) as new:
        new.write_text(text + "\n", encoding="utf-8")
    return file
