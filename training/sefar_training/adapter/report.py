"""A report as rows of a table, for a terminal or a model card."""

from __future__ import annotations

from .measures import AdapterReport, CaptionFigures, QuestionFigures, Share


def report_rows(report: AdapterReport) -> list[tuple[str, str, str]]:
    """Rows of name, adapter and classifier; values are per cent with Wilson intervals."""
    own, other = report.captions, report.classifier
    rows = [
        (f"{name} stated correctly", str(share), str(other.attributes[name])) for name, share in own.attributes.items()
    ]
    rows.append(("mean over attributes", _mean(own), _mean(other)))
    rows.append(("all attributes correct", str(own.exact), str(other.exact)))
    rows.append(("stated, but wrong", _shown(own.wrong), _shown(other.wrong)))
    rows.append(("not stated", str(own.unstated), str(other.unstated)))
    for name, figures in report.questions.items():
        rows.extend(_question_rows(name, figures))
    return rows


def _question_rows(name: str, figures: QuestionFigures) -> list[tuple[str, str, str]]:
    rows = [(f"questions, {name}", _shown(figures.adapter), _shown(figures.classifier))]
    if figures.consistency is not None:
        rows.append((f"questions, {name}: same answer with options reordered", str(figures.consistency), "–"))
    if figures.duplicates is not None:
        rows.append((f"questions, {name}: with duplicate options", str(figures.duplicates), "–"))
    return rows


def _mean(figures: CaptionFigures) -> str:
    return f"{100 * figures.mean:.1f} ± {100 * figures.mean_half:.1f}"


def _shown(share: Share | None) -> str:
    return "–" if share is None else str(share)
