"""The report of a run on a user's videos: one page that says how good the model is, and what to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sefar_serve.lists import UNKNOWN
from sefar_serve.metadata import Stream
from sefar_serve.quantity import quantity

from ..checkpoint import read_info
from ..evaluation import EvaluationReport, plots
from ..evaluation.report import headline, looks
from ..page import Cell, Page, Picture, Tile
from ..run_folder import LOG
from ..start import Prepared
from ..start.findings import plural
from ..typical import Typical, load_typical
from ..weights import KNOWN, Weights
from .answers import Answers, Doubt, answers_of, find_doubts
from .curves import draw_curves, read_log
from .thumbnails import thumbnails
from .trial import Choice, Judged, Trial
from .words import (
    UNMEASURED,
    about_control,
    about_new_places,
    about_same_places,
    counts,
    duration,
    interval,
    python_lines,
    serve_command,
)

REPORT = "report.html"

CELLS = 4
"""Most cells of the confusion matrix that are shown with clips."""

OF_CELL = 5
"""Most clips of a cell."""

PAIRS = 10
"""Most confused classes in the table."""

HARDEST = 12
DOUBTS = 12

Thumbnails = dict[int, NDArray[np.uint8]]


@dataclass(frozen=True)
class RunFacts:
    """What a run left.

    Attributes:
        name: name of the model.
        checkpoint: folder of the checkpoint; a log of the training is in it or beside it, if there is one. Of a joined
            model, the folder of both checkpoints.
        onnx: the exported model.
        stream: what the model sees.
        seconds: what the run took in all.
        test: its figures on the user's test list; None if there is no such list.
        weights: frozen pretrained weights that the model contains.
        typical: what is typical of its clips, of a joined model for frames and joints; empty if it measures no
            familiarity.
        pose_weight: of a joined model, the weight of the joints; the frames have the rest.
    """

    name: str
    checkpoint: Path
    onnx: Path
    stream: Stream
    seconds: float = 0.0
    test: EvaluationReport | None = None
    weights: tuple[Weights, ...] = ()
    typical: tuple[Typical, ...] = ()
    pose_weight: float | None = None

    @classmethod
    def read(cls, name: str, checkpoint: Path, onnx: Path) -> RunFacts:
        """Take what is known from the checkpoint.

        Raises:
            CheckpointError: the folder is not a checkpoint.
        """
        info, typical = read_info(checkpoint), load_typical(checkpoint)
        test = info.metrics.get("test")
        return cls(
            name, checkpoint, onnx, info.model.stream,
            test=None if test is None else EvaluationReport.model_validate(test),
            weights=tuple(weights for key, weights in KNOWN.items() if key == info.model.backbone),
            typical=() if typical is None else (typical,),
        )  # fmt: skip

    def joined(self, other: RunFacts, weight: float, checkpoints: Path, test: EvaluationReport | None) -> RunFacts:
        """The facts of a model that was joined of this model of frames and one of joints.

        Args:
            other: the model of joints that it is joined with.
            weight: of the joints.
            checkpoints: folder of both checkpoints.
            test: figures of the joined model on the user's test list.
        """
        return replace(
            self, stream="both", pose_weight=weight, checkpoint=checkpoints, test=test,
            weights=self.weights + other.weights, typical=self.typical + other.typical,
        )  # fmt: skip

    @property
    def serve(self) -> str:
        """The command that serves the model."""
        return serve_command(self.onnx)

    @property
    def python(self) -> str:
        """Lines of Python that use the model."""
        return python_lines(self.onnx)

    @property
    def log(self) -> Path | None:
        """The log of the training; None if there is none."""
        return next((f for f in (self.checkpoint / LOG, self.checkpoint.parent / LOG) if f.is_file()), None)


def write_report(path: Path, prepared: Prepared, choice: Choice, run: RunFacts) -> Path:
    """Write the report, one HTML file that loads nothing.

    Args:
        path: the file; replaced atomically if it exists.
        prepared: the collection.
        choice: what was tried and chosen.
        run: what the run left.

    Returns:
        The file.
    """
    lead = f"{choice.chosen.title}\n{counts(prepared)}. The run took {duration(run.seconds)}."
    page = Page(run.name, lead)
    _add_headline(page, prepared, choice)
    _add_choice(page, choice)
    _add_findings(page, prepared)
    trial = choice.trial
    if trial is None or trial.deciding is None:
        page.heading("Confusion, calibration and clips").text(UNMEASURED)
    else:
        _add_answers(page, prepared, trial, trial.deciding)
    _add_curves(page, run.log)
    if run.test is not None:
        page.heading("Your test list").text(f"{looks(run.test)}.")
        page.table(["figure", "value", "meaning"], headline(run.test))
    page.heading("Use it").text("Serve the model:").code(run.serve)
    page.text("Or call it from Python:").code(run.python)
    one = "The checkpoint for further training is" if run.stream != "both" else "Both checkpoints are in"
    page.text(f"{one} {run.checkpoint}.")
    return page.write(path)


def _add_headline(page: Page, prepared: Prepared, choice: Choice) -> None:
    trial, control = choice.trial, choice.control
    tiles = [
        _tile("New places", trial and trial.new_places, "groups that it did not learn from"),
        _tile("Same places", trial and trial.same_places, "the rest of this folder"),
    ]
    if control is not None:
        tiles.append(
            _tile(
                "A still frame alone", control.deciding, "in new places" if control.new_places else "in the same places"
            )
        )
    page.tiles(tiles)
    told = [about_new_places(prepared, choice), about_same_places(prepared, choice), about_control(prepared, choice)]
    page.items(list(dict.fromkeys(told)))
    page.text("Figures are balanced accuracies: the share of right answers in each class, averaged over classes.")


def _tile(name: str, judged: Judged | None, where: str) -> Tile:
    if judged is None:
        return Tile(name, "–", "not measured")
    return Tile(name, f"{judged.accuracy:.0%}", f"{where}; 95 % interval {judged.low:.0%} to {judged.high:.0%}")


def _add_choice(page: Page, choice: Choice) -> None:
    page.heading("What was chosen, and why").items(choice.reasons)
    tried = [_trial_row(t, " (chosen)" if t.candidate == choice.chosen else "") for t in choice.trials]
    if choice.control is not None:
        tried.append(_trial_row(choice.control, " (control, sees one still frame)"))
    if tried:
        page.table(
            ["tried", "new places", "same places", "took"],
            tried,
            "Balanced accuracy by cross-validation, with 95 % intervals from a bootstrap over groups.",
        )


def _trial_row(trial: Trial, mark: str) -> list[Cell]:
    return [
        trial.candidate.title + mark,
        interval(trial.new_places),
        interval(trial.same_places),
        duration(trial.seconds),
    ]


def _add_findings(page: Page, prepared: Prepared) -> None:
    page.heading("Your clips").text(f"{counts(prepared)} ({prepared.groups.why}).")
    told = [f"{f.level.capitalize()}: {f.text}." for f in prepared.findings if f.level != "note"]
    if told:
        page.items(told)
    else:
        page.text("No problems were found.")


def _add_answers(page: Page, prepared: Prepared, trial: Trial, judged: Judged) -> None:
    """Add what needs the answers to single clips: confusion, calibration, hard clips, labels, classes."""
    answers = answers_of(judged, prepared.labels, prepared.classes)
    where = "new places" if judged is trial.new_places else "the same places"
    number = {name: k for k, name in enumerate(prepared.classes)}
    pairs = [(number[p.true], number[p.predicted]) for p in answers.report.confused_pairs[:CELLS]]
    cells = [answers.behind(true, predicted, OF_CELL) for true, predicted in pairs]
    hardest = answers.hardest(HARDEST)
    shown = [*hardest.tolist(), *(i for cell in cells for i in cell.tolist())]
    pictures = thumbnails(prepared, answers.clips[shown].tolist())
    _add_confusion(page, prepared, answers, where)
    for (true, predicted), cell in zip(pairs, cells, strict=True):
        page.pictures(
            [_picture(prepared, answers, i, pictures) for i in cell.tolist()],
            f"{prepared.classes[true]} taken for {prepared.classes[predicted]}, the surest answers",
        )
    _add_calibration(page, answers)
    page.heading("Hardest clips")
    if len(hardest):
        page.pictures(
            [_picture(prepared, answers, i, pictures) for i in hardest.tolist()],
            "Wrong answers in which the true class had the lowest probability.",
        )
    else:
        page.text("Every clip was answered correctly.")
    _add_doubts(page, prepared, find_doubts([j for j in (trial.new_places, trial.same_places) if j], prepared.labels))
    _add_classes(page, prepared, trial)


def _picture(prepared: Prepared, answers: Answers, i: int, pictures: Thumbnails) -> Picture:
    clip, answer = int(answers.clips[i]), int(answers.predicted[i])
    title = prepared.rows[clip].title
    label = prepared.classes[int(answers.labels[i])]
    caption = (
        f"{label}\u00a0({answers.of_label[i]:.0%})\n"
        f"→ {prepared.classes[answer]}\u00a0({answers.probabilities[i, answer]:.0%})\n{title}"
    )
    return Picture(pictures.get(clip), f"middle frame of {title}", caption)


def _add_confusion(page: Page, prepared: Prepared, answers: Answers, where: str) -> None:
    report = answers.report
    page.heading("Confusion").figure(
        plots.confusion_image(report),
        f"Confusion matrix of {len(report.labels)} classes",
        f"Cross-validated answers to {quantity(report.clips, 'clip')}, in {where}: share of each true class (row) "
        "answered as each class (column). The colour scale is a square root, so that rare mistakes are visible.",
    )
    if report.confused_pairs:
        page.table(
            ["true class", "answer", "clips", "of the class"],
            [[p.true, p.predicted, p.clips, f"{p.share:.0%}"] for p in report.confused_pairs[:PAIRS]],
            "Most confused classes",
        )


def _add_calibration(page: Page, answers: Answers) -> None:
    report = answers.report
    confidence = float(answers.probabilities.max(axis=1).mean())
    gap = confidence - report.top1
    verdict = (
        "so it is about as sure as it should be"
        if abs(gap) < 0.05
        else "so it is too sure of itself"
        if gap > 0
        else "so it is too cautious"
    )
    page.heading("Calibration").text(
        f"On average the model gives its answer a probability of {confidence:.0%}, and {report.top1:.0%} of the "
        f"answers are right, {verdict}. The expected calibration error is {report.ece:.3f}."
    )
    page.figure(
        plots.reliability_diagram(report),
        f"Reliability diagram; expected calibration error {report.ece:.3f}",
        "Cross-validated answers. Above the diagonal the model is right more often than its probability says; under "
        "it, less often. The lower plot counts the clips in each bin.",
    )


def _add_doubts(page: Page, prepared: Prepared, doubts: Sequence[Doubt]) -> None:
    page.heading("Labels worth checking")
    if not doubts:
        page.text("No label stands out.")
        return
    rows = [
        [prepared.rows[d.clip].title, prepared.classes[int(prepared.labels[d.clip])], prepared.classes[d.answer],
         f"{d.probability:.0%}"]
        for d in doubts[:DOUBTS]
    ]  # fmt: skip
    page.text(
        f"{plural(len(doubts), 'clip gets', 'clips get')} another class with high probability whenever the model has "
        "not learnt from the clip. Either the model is wrong or the label is; look at the clip."
    )
    more = f"the first {DOUBTS} of {len(doubts)}" if len(doubts) > DOUBTS else None
    page.table(["clip", "label", "answer", "probability"], rows, more)


def _add_classes(page: Page, prepared: Prepared, trial: Trial) -> None:
    labels = prepared.labels
    counted = np.bincount(labels[labels != UNKNOWN], minlength=len(prepared.classes))
    by = [_per_class(judged, labels) for judged in (trial.new_places, trial.same_places)]
    deciding = by[0] or by[1]
    order = sorted(range(len(prepared.classes)), key=lambda k: (deciding.get(k, 2.0), k))
    rows: list[list[Cell]] = [
        [
            prepared.classes[k],
            k,
            int(counted[k]),
            len(np.unique(prepared.groups.of[labels == k])),
            *(f"{found[k]:.0%}" if k in found else "–" for found in by),
        ]
        for k in order
    ]
    page.heading("Classes").table(
        ["class", "number", "clips", "groups", "new places", "same places"],
        rows,
        "Share of right answers in each class, by cross-validation, the lowest first.",
    )


def _per_class(judged: Judged | None, labels: NDArray[np.int64]) -> dict[int, float]:
    """The share of right answers in each class that was judged."""
    if judged is None:
        return {}
    known = np.flatnonzero(~np.isnan(judged.probabilities).any(axis=1))
    right = judged.probabilities[known].argmax(axis=1) == labels[known]
    return {int(k): float(right[labels[known] == k].mean()) for k in np.unique(labels[known])}


def _add_curves(page: Page, log: Path | None) -> None:
    epochs = [] if log is None else read_log(log)
    if len(epochs) < 2:
        return
    page.heading("Learning curves").figure(
        draw_curves(epochs),
        f"Losses and accuracies over {len(epochs)} epochs",
        "The final training, on all clips of train. Val is what the model was watched on.",
    )
