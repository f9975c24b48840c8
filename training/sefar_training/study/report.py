"""The page of a study: the table of methods, and the five checks that the paper's readers are told to make."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from sefar_serve.atomic import atomic_file

from ..evaluation import EvaluationReport
from ..evaluation.measures import auroc
from ..page import Page
from ..sweep.interval import Interval, interval
from ..sweep.plan import by_variant
from .figures import accuracy_bars, accuracy_by_deviation, attention_sheet, eta_distributions
from .measure import Prober, PseudoLabelled, test_report
from .plan import Study, StudyRun

HTML, JSON = "study.html", "study.json"

PERTURBATION = "semi.perturbation"
"""The key that the variants of an ablation change."""

SHOWN_PAIRS = 2
"""Opposite pairs whose attention is drawn."""


def write_study(study: Study, runs: Sequence[StudyRun], out: Path) -> tuple[Path, Path]:
    """Measure finished runs, and write `study.json` and `study.html`, each whole or not at all.

    Args:
        study: what was compared.
        runs: all its runs, trained.
        out: folder to write to.

    Returns:
        The two files.
    """
    reports = {variant: [test_report(run) for run in its] for variant, its in by_variant(runs)}
    students = {variant: [test_report(run, student=True) for run in its] for variant, its in by_variant(runs)}
    page = Page(study.title, _lead(study, runs))
    if study.note:
        page.text(study.note)
    figures: dict[str, Any] = {"title": study.title, "seeds": study.seeds, "labels": study.labels}
    figures["methods"] = _methods(page, study, reports, students)
    focus = [run for run in runs if run.variant == study.focus]
    probers = [Prober(run) for run in focus]
    held_out = probers[0].clips(_needed(focus[0].config.data.test))
    unlabelled = [prober.pseudo_label(prober.clips(_needed(prober.run.config.data.unlabel))) for prober in probers]
    taught = [prober.pseudo_label(held_out) for prober in probers]
    if "none" in _perturbations(study):
        figures["spatial_only"] = _spatial_only(page, study, reports)
    figures["eta"] = _eta(page, unlabelled, taught)
    figures["direction"] = _direction(page, study, probers, held_out, reports)
    figures["deviation"] = _deviation(page, taught)
    if _perturbations(study):
        figures["ablation"] = _ablation(page, study, reports)
    with atomic_file(out / JSON) as new:
        new.write_text(json.dumps(figures, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return out / JSON, page.write(out / HTML)


def _needed(path: Path | None) -> Path:
    if path is None:
        raise ValueError("a study needs data.test and data.unlabel")
    return path


def _lead(study: Study, runs: Sequence[StudyRun]) -> str:
    optim, semi = runs[0].config.optim, runs[0].config.semi
    steps = optim.epochs * (optim.steps_per_epoch or 0)
    return (
        f"{len(study.seeds)} seeds; each draws its own {study.labels:g} % of the labels, shared by all variants. Every "
        f"training has {steps} steps of {optim.batch_size} labelled clips"
        f" and, from epoch {semi.start_epoch} of {optim.epochs}, {semi.batch_size} unlabelled ones, starts from the "
        "same backbone and is judged on the same test clips, by the moving average of its weights. Intervals are 95 %, "
        "Student's t over seeds; gains are differences within a seed."
    )


def _top1(reports: Sequence[EvaluationReport]) -> list[float]:
    return [100 * report.top1 for report in reports]


def _gain(a: Sequence[EvaluationReport], b: Sequence[EvaluationReport]) -> Interval:
    return interval([x - y for x, y in zip(_top1(a), _top1(b), strict=True)])


def _numbers(value: Interval) -> dict[str, float | None]:
    return {"mean": value.mean, "half": value.half if np.isfinite(value.half) else None}


def _perturbations(study: Study) -> dict[str, str]:
    """The variants that are there to compare perturbations, by what they do to time."""
    return {str(changes[PERTURBATION]): name for name, changes in study.variants.items() if PERTURBATION in changes}


def _methods(
    page: Page,
    study: Study,
    reports: dict[str, list[EvaluationReport]],
    students: dict[str, list[EvaluationReport]],
) -> dict[str, Any]:
    ablated = _perturbations(study).values()
    names = [name for name in reports if name not in ablated]
    rows = []
    for name in names:
        pairs = [100 * r.opposite_pairs for r in reports[name] if r.opposite_pairs is not None]
        gain = "–" if name == study.baseline else str(_gain(reports[name], reports[study.baseline]))
        rows.append(
            [
                name,
                str(interval(_top1(reports[name]))),
                gain,
                str(interval([100 * r.mean_class for r in reports[name]])),
                str(interval(pairs)) if pairs else "–",
                str(interval(_top1(students[name]))),
                ", ".join(f"{value:.1f}" for value in _top1(reports[name])),
            ]
        )
    page.heading("Methods")
    page.table(
        ["method", "top-1", f"gain over {study.baseline}", "mean class", "opposite pairs", "student's top-1", "seeds"],
        rows,
        "Per cent on the test split.",
    )
    accuracies = {name: interval(_top1(reports[name])) for name in names}
    seeds = {name: _top1(reports[name]) for name in names}
    page.figure(
        accuracy_bars(accuracies, seeds, study.focus), "bars of top-1 by method", "Top-1 by method; a dot is a seed."
    )
    return {
        name: {"top1": seeds[name], **_numbers(accuracies[name]), "student_top1": _top1(students[name])}
        for name in names
    }


def _spatial_only(page: Page, study: Study, reports: dict[str, list[EvaluationReport]]) -> dict[str, float | None]:
    page.heading("1. Spatial augmentation alone, against moderate perturbation")
    gain = _gain(reports[study.focus], reports[_perturbations(study)["none"]])
    page.text(
        f"Moderate perturbation of the strong view changes top-1 by {gain} points against the same training without it "
        "(the paper: 2 to 3)."
    )
    return _numbers(gain)


def _eta(page: Page, unlabelled: list[PseudoLabelled], held_out: list[PseudoLabelled]) -> dict[str, Any]:
    page.heading("2. η of right and of wrong pseudo-labels")
    found: dict[str, Any] = {}
    rows = []
    for name, parts in (("unlabelled training clips", unlabelled), ("test clips", held_out)):
        areas = [auroc(part.eta, part.right) for part in parts]
        plain = [auroc(part.probability, part.right) for part in parts]
        right = [_mean(part.eta[part.right]) for part in parts]
        wrong = [_mean(part.eta[~part.right]) for part in parts]
        accuracy = [100 * float(part.right.mean()) for part in parts]
        rows.append([name, str(interval(accuracy)), *(_shown(values) for values in (right, wrong, areas, plain))])
        found[name] = {"auroc": areas, "auroc_probability": plain, "eta_right": right, "eta_wrong": wrong}
    page.table(
        ["clips", "labels right, %", "mean η, right", "mean η, wrong", "AUROC of η", "AUROC of probability"],
        rows,
        "The finished teacher's pseudo-labels; means over seeds. AUROC: how well the figure tells right from wrong.",
    )
    page.figure(
        eta_distributions(PseudoLabelled.join(unlabelled)),
        "histograms of η",
        "η on unlabelled training clips, all seeds.",
    )
    return found


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) else None


def _shown(values: Sequence[float | None]) -> str:
    """The mean over seeds, of those that have the figure: a teacher that is never right has no η of right labels."""
    known = [value for value in values if value is not None]
    return f"{np.mean(known):.3f}" if known else "–"


def _direction(
    page: Page,
    study: Study,
    probers: list[Prober],
    held_out: Sequence[tuple[torch.Tensor, torch.Tensor]],
    reports: dict[str, list[EvaluationReport]],
) -> dict[str, Any]:
    page.heading("3. Direction: opposite pairs, and where it is read from")
    answers = [prober.probe(held_out) for prober in probers]
    titles = {
        "none": "as they are",
        "moderate": "fine elements reversed",
        "context": "context reversed",
        "reverse-all": "both reversed",
        "exchange": "fine elements exchanged",
    }
    rows, found = [], {}
    for kind, title in titles.items():
        true = [100 * answer[kind].true for answer in answers]
        opposite = [100 * answer[kind].opposite for answer in answers]
        rows.append([title, str(interval(true)), str(interval(opposite))])
        found[kind] = {"true": true, "opposite": opposite}
    page.text(
        "Test clips whose class has an exact opposite in time, shown to the trained model with frames reordered. Where "
        "an order is what direction is read from, disturbing it costs right answers, or turns them into the opposite; "
        "where it makes no difference, the model does not look at it."
    )
    page.table(["frames", "answers the true class, %", "answers the opposite, %"], rows)
    page.figure(
        _attention(probers[0], held_out),
        "frames with attention maps",
        "Attention of the class token in the last layer, over fine and context elements, on clips of opposite pairs "
        "(first seed). Bright is much.",
    )
    return found


def _attention(prober: Prober, clips: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> Any:
    frames = torch.cat([f for f, _ in clips])
    labels = torch.cat([label for _, label in clips])
    rows = []
    pairs = [(c, o) for c, o in enumerate(prober.info.opposites) if o is not None and c < o]
    for pair in pairs[:: max(1, len(pairs) // SHOWN_PAIRS)][:SHOWN_PAIRS]:
        for label in pair:
            clip = frames[(labels == label).nonzero()[0]]
            with torch.inference_mode():
                attention = prober.model.backbone.class_attention(prober.normalizer(clip))[0]
            rows.append((prober.info.labels[label], clip[0].numpy(), attention.numpy()))
    return attention_sheet(rows, prober.info.model.sample_frames)


def _deviation(page: Page, held_out: list[PseudoLabelled]) -> dict[str, Any]:
    page.heading("4. The teacher's variance and the accuracy of its labels")
    correlations = [_correlation(part) for part in held_out]
    page.text(
        "Spearman's correlation between the deviation s of a label's probability over the teacher's samples and the "
        f"label being right, on test clips: {interval(correlations, digits=2)}. s is small for sure answers and "
        " for hopeless ones alike, which is why η looks at the mean too."
    )
    page.figure(
        accuracy_by_deviation(PseudoLabelled.join(held_out)),
        "accuracy against deviation",
        "Test clips of all seeds in ten equal groups of rising deviation.",
    )
    return {"spearman": correlations}


def _correlation(part: PseudoLabelled) -> float:
    """Spearman's; 0 where all labels are right or all are wrong, which leaves nothing to go together."""
    return float(stats.spearmanr(part.deviation, part.right).statistic) if len(set(part.right)) == 2 else 0.0


def _ablation(page: Page, study: Study, reports: dict[str, list[EvaluationReport]]) -> dict[str, Any]:
    page.heading("5. Perturbations of the strong view")
    kinds = {"moderate": study.focus, **_perturbations(study)}
    rows = []
    for kind, name in kinds.items():
        gain = "–" if name == study.focus else str(_gain(reports[name], reports[study.focus]))
        pairs = [100 * r.opposite_pairs for r in reports[name] if r.opposite_pairs is not None]
        seeds = ", ".join(f"{v:.1f}" for v in _top1(reports[name]))
        rows.append([kind, str(interval(_top1(reports[name]))), gain, str(interval(pairs)) if pairs else "–", seeds])
    page.table(["perturbation", "top-1", "against moderate", "opposite pairs", "seeds"], rows, "Per cent, test split.")
    seeds_of = {kind: _top1(reports[name]) for kind, name in kinds.items()}
    bars = {kind: interval(values) for kind, values in seeds_of.items()}
    page.figure(accuracy_bars(bars, seeds_of, "moderate"), "bars of top-1 by perturbation", "A dot is a seed.")
    return {kind: {"top1": seeds_of[kind], **_numbers(value)} for kind, value in bars.items()}
