"""How the results of training commands look in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Column, Table

from sefar_serve.cli.console import out
from sefar_serve.quantity import quantity

from ..data.survey import ListSurvey, Overlap, Survey
from ..evaluation import EvaluationReport
from ..evaluation.report import confused_rows, headline, looks
from ..fusion import FusionReport
from ..weights import Weights

NAMED = 5
"""Most clips that a message names; the rest are counted."""


def print_survey(survey: Survey) -> None:
    """Print a table of the lists, and below it missing and broken clips, and lists that share clips."""
    on_disk = any(found.missing is not None for found in survey.lists)
    decoded = any(found.broken is not None for found in survey.lists)
    name = Column("list", overflow="fold")
    table = Table(name, "for", "clips", "classes", "clips per class", *["missing"] * on_disk, *["broken"] * decoded)
    for found in survey.lists:
        table.add_row(
            _short(found.file),
            found.role,
            str(found.clips),
            str(found.classes) if found.classes else "unlabelled",
            f"{found.least}–{found.most}" if found.classes else "",
            *[_count(found.missing or ())] * on_disk,
            *[_count(found.broken or ())] * decoded,
        )
    out.print(table)
    for found in survey.lists:
        for kind, text in _notes(found):
            out.print(f"[{kind}]{_short(found.file)}:[/] {escape(text)}", highlight=False, soft_wrap=True)
    for overlap in survey.overlaps:
        kind, text = _sharing(overlap)
        between = f"{_short(overlap.first)} and {_short(overlap.second)}"
        out.print(f"[{kind}]{between}[/] {escape(text)}", highlight=False, soft_wrap=True)


def _short(file: Path) -> str:
    """A list's name and its folder, which together identify list and set."""
    return escape(f"{file.parent.name}/{file.name}" if file.parent.name else file.name)


def _count(clips: Sequence[object]) -> str:
    return f"[red]{len(clips)}[/]" if clips else "0"


def _notes(found: ListSurvey) -> Iterable[tuple[str, str]]:
    """Notes about a list, each with its colour."""
    if found.missing:
        yield "red", f"{len(found.missing)} of {found.clips} clips are not on disk: {_named(found.missing)}"
    if found.broken:
        yield "red", f"{len(found.broken)} clips do not decode: {_named([clip.reason for clip in found.broken], '; ')}"
    if found.beyond_labels:
        text = f"{found.beyond_labels} clips have a class that is not in the label file; the highest is"
        yield "red", f"{text} {found.highest_label}"
    if found.repeated:
        yield "yellow", f"{found.repeated} clips are listed more than once"
    if found.unlabelled and found.classes:
        yield "yellow", f"{found.unlabelled} clips have no class"
    if found.classes and found.classes <= found.highest_label:
        absent = found.highest_label + 1 - found.classes
        yield "yellow", f"{absent} of the classes 0 to {found.highest_label} have no clips"


def _named(clips: Sequence[str], separator: str = ", ") -> str:
    return separator.join(clips[:NAMED]) + (f" and {len(clips) - NAMED} more" if len(clips) > NAMED else "")


def _sharing(overlap: Overlap) -> tuple[str, str]:
    """A note about what two lists share, and its colour."""
    if overlap.same:
        text = f"contain the same {overlap.shared} clips, as val and test do in many published lists"
    elif overlap.shared:
        text = f"share {quantity(overlap.shared, 'clip')}, e.g. {overlap.example}"
    else:
        text = f"overlap in {quantity(overlap.overlapping, 'span')} of the same files, e.g. {overlap.example}"
    if overlap.shared and overlap.overlapping:
        text += f", and overlap in {quantity(overlap.overlapping, 'more span')}"
    if overlap.contradictions:
        text += f"; {overlap.contradictions} of them with different classes"
    if overlap.leak:
        return "red", f"{text}: evaluation clips are also used for training"
    return ("red" if overlap.contradictions else "dim"), text


def print_evaluation(report: EvaluationReport, model: str, list_file: str) -> None:
    """Print tables of the figures, of the attributes, and of the most confused classes."""
    out.print(f"{escape(model)} on {escape(list_file)}: {looks(report)}", highlight=False, soft_wrap=True)
    figures = Table("figure", Column("value", justify="right"), "meaning")
    for row in headline(report):
        figures.add_row(*row)
    out.print(figures)
    if report.attributes:
        attributes = Table("attribute", Column("accuracy", justify="right"))
        for name, value in report.attributes.items():
            attributes.add_row(escape(name), f"{value:.1%}")
        out.print(attributes)
    if report.confused_pairs:
        counts = [Column(name, justify="right") for name in ("clips", "of the class")]
        pairs = Table("true class", "predicted", *counts, "opposite")
        for row in confused_rows(report)[:NAMED]:
            pairs.add_row(*(escape(str(cell)) for cell in row))
        out.print(pairs)


def print_fusion(report: FusionReport) -> None:
    """Print a table of what each stream and both together reach, and what was written."""
    table = Table("list", "model", *[Column(name, justify="right") for name in ("accuracy", "balanced", "NLL")])
    for title, found in (("validation", report.val), ("test", report.test)):
        if found is None:
            continue
        for name, figures in (("joints", found.pose), ("frames", found.rgb), ("both", found.both)):
            row = (f"{figures.accuracy:.1%}", f"{figures.balanced_accuracy:.1%}", f"{figures.nll:.3f}")
            table.add_row(f"{title}, {found.clips} clips", name, *row)
    out.print(table)
    out.print(
        f"{escape(report.model)}: the joints have weight {report.pose_weight:g}, chosen on the validation list, so the "
        "figures of both on that list are slightly too good.",
        highlight=False,
        soft_wrap=True,
    )
    if report.pose_weight in (0, 1):
        useless = "joints" if report.pose_weight == 0 else "frames"
        out.print(f"[yellow]The {useless} do not help on this list; serve the other model alone.[/]", soft_wrap=True)


def print_weights(found: Mapping[Weights, Path | None]) -> None:
    """Print a table of known weights, each with its file if it is on this machine."""
    columns = Column("MB", justify="right"), Column("from", overflow="fold"), "here"
    table = Table(Column("name", no_wrap=True), "what", "licence", *columns)
    for weights, file in found.items():
        size = f"{weights.size / 1e6:.0f}"
        here = "yes" if file is not None else "no"
        table.add_row(weights.name, escape(weights.what), weights.licence, size, escape(weights.origin), here)
    out.print(table)
