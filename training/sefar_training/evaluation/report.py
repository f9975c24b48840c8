"""A report on disk: `report.json` for programs, and the page `report.html` for people."""

from __future__ import annotations

import json
from pathlib import Path

from sefar_serve.atomic import atomic_file

from ..page import Cell, Page
from . import plots
from .score import EvaluationReport

JSON, HTML = "report.json", "report.html"


def report_json(report: EvaluationReport, model: str, list_file: str) -> str:
    """Format a report as one JSON object that begins with `model` and `list`.

    `EvaluationReport.model_validate_json` reads it back.
    """
    about = {"model": model, "list": list_file}
    return json.dumps(about | report.model_dump(mode="json"), ensure_ascii=False)


def write_report(report: EvaluationReport, out: Path, model: str, list_file: str) -> tuple[Path, Path]:
    """Write `report.json` and `report.html`, each atomically.

    Args:
        report: the figures.
        out: folder to write to; created if missing.
        model: the model that was evaluated, for display.
        list_file: the list that it was evaluated on, for display.

    Returns:
        The two files.
    """
    out.mkdir(parents=True, exist_ok=True)
    with atomic_file(out / JSON) as new:
        new.write_text(report_json(report, model, list_file) + "\n", encoding="utf-8")
    return out / JSON, report_page(report, model, list_file).write(out / HTML)


def headline(report: EvaluationReport) -> list[tuple[str, str, str]]:
    """The most important figures as rows of name, value and meaning."""
    rows = [
        ("top-1", f"{report.top1:.1%}", f"95 % interval {report.top1_low:.1%} to {report.top1_high:.1%}"),
        ("top-5", f"{report.top5:.1%}", "the true class is among the five highest"),
        ("mean class", f"{report.mean_class:.1%}", "top-1 averaged over classes"),
    ]
    if report.opposite_pairs is not None and report.opposite_confusion is not None:
        clips = f"{report.opposite_clips} clips"
        rows += [
            ("opposite pairs", f"{report.opposite_pairs:.1%}", f"true class scores above its opposite; {clips}"),
            ("opposite predicted", f"{report.opposite_confusion:.1%}", f"the opposite is predicted; {clips}"),
        ]
    rows.append(("calibration error", f"{report.ece:.3f}", "ECE of the top-1 probability, 15 bins"))
    if report.eta is not None and report.eta.auroc is not None:
        rows += [
            ("AUROC of η", f"{report.eta.auroc:.3f}", "how well η separates right and wrong answers; 0.5 is chance"),
            ("AUROC of probability", f"{report.eta.auroc_probability:.3f}", "the same for the top-1 probability"),
        ]
    return rows


def looks(report: EvaluationReport) -> str:
    """How many clips and views, e.g. ``540 clips, 4 temporal views x 3 spatial crops each``."""
    if report.temporal_views == report.spatial_crops == 1:
        return f"{report.clips} clips, one central view each, as in serving"
    return (
        f"{report.clips} clips, {report.temporal_views} temporal views × {report.spatial_crops} spatial crops each, "
        "probabilities averaged"
    )


def report_page(report: EvaluationReport, model: str, list_file: str) -> Page:
    """Build the page of a report."""
    page = Page("Evaluation", f"{model}\non {list_file}\n{looks(report)}.")
    page.table(["figure", "value", "meaning"], headline(report))
    if report.attributes:
        page.heading("Attributes").figure(
            plots.attribute_bars(report),
            "Bars: " + ", ".join(f"{name} {value:.1%}" for name, value in report.attributes.items()),
            "How often the predicted class and the true class agree on an attribute. Only clips whose class has the "
            "attribute count.",
        )
    page.heading("Calibration").figure(
        plots.reliability_diagram(report),
        f"Reliability diagram; expected calibration error {report.ece:.3f}",
        "Above the diagonal the model is right more often than its probability says (underconfident); under it, less "
        "often (overconfident). The lower plot counts the clips in each bin.",
    )
    if report.eta is not None:
        page.heading("Does η separate right from wrong answers?").text(_eta_in_words(report)).figure(
            plots.eta_histograms(report.eta),
            "Histograms of η for right and for wrong answers",
            "η of right and of wrong answers, each normalised to 1. Dotted lines are means.",
        )
    page.heading("Classes").figure(
        plots.class_bars(report),
        f"Bars of top-1 for {len(report.per_class)} classes",
        "Top-1 of every class in the list, lowest first.",
    )
    page.heading("Confusion").figure(
        plots.confusion_image(report),
        f"Confusion matrix of {len(report.labels)} classes",
        "Share of each true class (row) predicted as each class (column). The colour scale is a square root, so that "
        "rare mistakes are visible.",
    )
    if report.confused_pairs:
        page.table(
            ["true class", "predicted", "clips", "of the class", "opposite"],
            confused_rows(report),
            "Most confused classes. ⇄ marks exact opposites in time.",
        )
    else:
        page.text("Every clip was classified correctly.")
    return page


def confused_rows(report: EvaluationReport) -> list[list[Cell]]:
    """One row for each of the most confused pairs: true, predicted, clips, share, and a mark for opposites."""
    return [
        [pair.true, pair.predicted, pair.clips, f"{pair.share:.0%}", "⇄" if pair.opposite else ""]
        for pair in report.confused_pairs
    ]


def _eta_in_words(report: EvaluationReport) -> str:
    eta = report.eta
    if eta is None or eta.auroc is None or eta.auroc_probability is None:
        return "All answers are right or all are wrong, so there is nothing to separate."
    better = "better" if eta.auroc > eta.auroc_probability else "worse" if eta.auroc < eta.auroc_probability else "as"
    compared = f"{better} than" if better != "as" else "as well as"
    return (
        f"A right answer has a higher η than a wrong one in {eta.auroc:.1%} of pairs. "
        f"That is {compared} the top-1 probability, {eta.auroc_probability:.1%}. "
        f"Mean η is {eta.mean_right:.2f} for right and {eta.mean_wrong:.2f} for wrong answers."
    )
