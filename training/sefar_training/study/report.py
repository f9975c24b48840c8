"""The page of a study: the table of methods, and five checks of the paper's claims."""

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
"""The recipe key that the variants of the ablation change."""

SHOWN_PAIRS = 2
"""Number of opposite pairs whose attention is drawn."""


def write_study(study: Study, runs: Sequence[StudyRun], out: Path) -> tuple[Path, Path]:
    """Measure the trained runs, and write `study.json` and `study.html`, each atomically.

    Args:
        study: the study.
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
        raise ValueError("a study needs data.test and data.unlabel in its recipe")
    return path


def _lead(study: Study, runs: Sequence[StudyRun]) -> str:
    optim, semi = runs[0].config.optim, runs[0].config.semi
    steps = optim.epochs * (optim.steps_per_epoch or 0)
    return (
        f"{len(study.seeds)} seeds. Each seed draws its own {study.labels:g} % of the labels, and all variants share "
        f"them. Every run takes {steps} steps of {optim.batch_size} labelled clips and, from epoch {semi.start_epoch} "
        f"of {optim.epochs} on, {semi.batch_size} unlabelled clips. All runs start from the same backbone and are "
        "evaluated on the same test clips with the moving average of their weights. Intervals are 95 %, Student's t "
        "over seeds; gains are differences within a seed."
    )


def _top1(reports: Sequence[EvaluationReport]) -> list[float]:
    return [100 * report.top1 for report in reports]


def _gain(a: Sequence[EvaluationReport], b: Sequence[EvaluationReport]) -> Interval:
    return interval([x - y for x, y in zip(_top1(a), _top1(b), strict=True)])


def _numbers(value: Interval) -> dict[str, float | None]:
    return {"mean": value.mean, "half": value.half if np.isfinite(value.half) else None}


def _perturbations(study: Study) -> dict[str, str]:
    """The variants of the ablation of perturbations: perturbation to name."""
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
        ["method", "top-1", f"gain over {study.baseline}", "mean class", "opposite pairs", "student top-1", "seeds"],
        rows,
        "Per cent on the test split.",
    )
    accuracies = {name: interval(_top1(reports[name])) for name in names}
    seeds = {name: _top1(reports[name]) for name in names}
    page.figure(
        accuracy_bars(accuracies, seeds, study.focus), "bars of top-1 by method", "Top-1 by method. A dot is a seed."
    )
    return {
        name: {"top1": seeds[name], **_numbers(accuracies[name]), "student_top1": _top1(students[name])}
        for name in names
    }


def _spatial_only(page: Page, study: Study, reports: dict[str, list[EvaluationReport]]) -> dict[str, float | None]:
    page.heading("1. Moderate temporal perturbation, compared with spatial augmentation only")
    gain = _gain(reports[study.focus], reports[_perturbations(study)["none"]])
    page.text(
        f"Moderate perturbation of the strong view changes top-1 by {gain} percentage points, compared with the same "
        "training without it (the paper: 2 to 3)."
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
        "Pseudo-labels of the trained teacher; means over seeds. AUROC: how well the value separates right from wrong.",
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
    """The mean over the seeds that have a value: a teacher that is never right has no η of right labels."""
    known = [value for value in values if value is not None]
    return f"{np.mean(known):.3f}" if known else "–"


def _direction(
    page: Page,
    study: Study,
    probers: list[Prober],
    held_out: Sequence[tuple[torch.Tensor, torch.Tensor]],
    reports: dict[str, list[EvaluationReport]],
) -> dict[str, Any]:
    page.heading("3. Direction: which frames show the model the direction of time")
    answers = [prober.probe(held_out) for prober in probers]
    titles = {
        "none": "unchanged",
        "moderate": "fine elements reversed",
        "context": "context reversed",
        "reverse-all": "both reversed",
        "exchange": "fine elements swapped",
    }
    rows, found = [], {}
    for kind, title in titles.items():
        true = [100 * answer[kind].true for answer in answers]
        opposite = [100 * answer[kind].opposite for answer in answers]
        rows.append([title, str(interval(true)), str(interval(opposite))])
        found[kind] = {"true": true, "opposite": opposite}
    page.text(
        "Test clips whose class has an exact opposite in time, shown to the trained model with frames reordered. If "
        "the model reads direction from an order, disturbing that order lowers the accuracy or turns predictions into "
        "the opposite. If it changes nothing, the model ignores that order."
    )
    page.table(["frames", "true class predicted, %", "opposite predicted, %"], rows)
    page.figure(
        _attention(probers[0], held_out),
        "frames with attention maps",
        "Attention of the class token in the last layer, over fine and context elements, on clips of opposite pairs "
        "(first seed). Brighter is more.",
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
    page.heading("4. The teacher's standard deviation and the accuracy of its labels")
    correlations = [_correlation(part) for part in held_out]
    page.text(
        "Spearman's correlation between the standard deviation s of a label's probability over the teacher's samples "
        f"and the label being right, on test clips: {interval(correlations, digits=2)}. s is small both for confident "
        "and for hopeless predictions, which is why η also uses the mean."
    )
    page.figure(
        accuracy_by_deviation(PseudoLabelled.join(held_out)),
        "accuracy against standard deviation",
        "Test clips of all seeds, in ten equal groups of rising standard deviation.",
    )
    return {"spearman": correlations}


def _correlation(part: PseudoLabelled) -> float:
    """Spearman's correlation; 0 if all labels are right or all are wrong."""
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
    page.table(
        ["perturbation", "top-1", "compared with moderate", "opposite pairs", "seeds"],
        rows,
        "Per cent on the test split.",
    )
    seeds_of = {kind: _top1(reports[name]) for kind, name in kinds.items()}
    bars = {kind: interval(values) for kind, values in seeds_of.items()}
    page.figure(accuracy_bars(bars, seeds_of, "moderate"), "bars of top-1 by perturbation", "A dot is a seed.")
    return {kind: {"top1": seeds_of[kind], **_numbers(value)} for kind, value in bars.items()}
