"""Prints results in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sefar_client.warned import Warned, warning_lines
from sefar_serve.atomic import atomic_file
from sefar_serve.metadata import ModelMetadata
from sefar_serve.quantity import quantity
from sefar_serve.schemas.chat import Caption, ChatCompletion
from sefar_serve.schemas.problem import ItemError
from sefar_serve.schemas.video import Classification, Embedding, Label, SourceFrame, WindowLabels

out = Console()
err = Console(stderr=True)


def label_text(label: Label) -> str:
    """A label and its score on one line."""
    return f"{label.label}  {label.score:.1%}"


def frames_text(frames: Iterable[SourceFrame]) -> str:
    """Which frames the model saw, by element: ``fine_1 4,20 | context 1,9,17``."""
    by_element: dict[str, list[str]] = {}
    for frame in frames:
        by_element.setdefault(frame.element, []).append(str(frame.index))
    return " | ".join(f"{element} {','.join(indices)}" for element, indices in by_element.items())


def print_json(items: Iterable[BaseModel], file: Path | None = None) -> None:
    """Print one JSON object per line, or write them to a file.

    Raises:
        OSError: the file cannot be written.
    """
    text = "".join(item.model_dump_json() + "\n" for item in items)
    if file is None:
        typer.echo(text, nl=False)
    else:
        write_text(file, text)


def write_text(file: Path, text: str) -> None:
    """Write a file that was asked for, atomically; its folder is created if missing.

    Raises:
        OSError: the file cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(file) as part:
        part.write_text(text, "utf-8", newline="")


def exit_by(items: Sequence[BaseModel]) -> None:
    """Exit with an error status if any video failed.

    Raises:
        typer.Exit: with status 1 in that case.
    """
    failed = sum(isinstance(item, ItemError) for item in items)
    if failed:
        err.print(f"[red]{failed} of {quantity(len(items), 'video')} failed[/]")
        raise typer.Exit(1)


def print_captions(items: Sequence[Caption | ItemError]) -> None:
    """Print each caption and, below it, whether the classifier agrees; failures last."""
    for item in items:
        if isinstance(item, Caption):
            out.print(f"[bold]{escape(Path(item.name).name)}[/]  {escape(item.caption)}", highlight=False)
            print_notice(item.notice, item.labels[0], item.reliability)
            _print_warnings(item.clip, item.timeline)
    print_notes(items)


def print_notice(notice: str | None, best: Label, reliability: float) -> None:
    """Print a warning if the classifier disagrees with a text, or else its label and η."""
    if notice is None:
        out.print(f"  [dim]classifier: {escape(label_text(best))}, η {reliability:.2f}[/]", highlight=False)
    else:
        out.print(f"  [yellow]{escape(notice)}[/]", highlight=False)


def print_answer(answer: ChatCompletion) -> None:
    """Print an answer, the options it was chosen from, and whether the classifier agrees."""
    out.print(escape(answer.choices[0].message.content), highlight=False)
    for option in answer.sefar.options or ():
        out.print(f"  {option.probability:6.1%}  {option.letter}. {escape(option.text)}", highlight=False)
    for clip in answer.sefar.clips:
        print_notice(answer.sefar.notice, clip.labels[0], clip.reliability)
        _print_warnings(clip.clip)


def _print_warnings(clip: Warned, windows: Sequence[Warned] | None = None) -> None:
    for line in warning_lines(clip, windows):
        out.print(f"  [yellow]{escape(line)}[/]", highlight=False)


def print_classifications(items: Sequence[Classification | ItemError]) -> None:
    """Print a table of labels, one row per clip or, with a timeline, per window; failures below it."""
    found = [item for item in items if isinstance(item, Classification)]
    with_time = any(item.timeline for item in found)
    table = Table("clip", *["seconds"] * with_time, "label", "score", "η", "next best", show_lines=True)
    for item in found:
        if item.timeline is None:
            table.add_row(_name(item, item.clip), *["all"] * with_time, *_cells(item))
            continue
        for window in item.timeline:
            when = f"{window.start:.1f}–{window.end:.1f}"
            table.add_row(_name(item, window), when, *_cells(window))
    if found:
        out.print(table)
    if any(item.segments is not None for item in found):
        out.print(_segments(found))
    print_notes(items)


def _segments(found: Sequence[Classification]) -> Table:
    """A table with one row for each segment."""
    table = Table("clip", "seconds", "label", "score", title="segments")
    for item in found:
        for one in item.segments or ():
            when = f"{one.start:.2f}–{one.end:.2f}"
            table.add_row(escape(Path(item.name).name), when, escape(one.label), f"{one.score:.1%}")
    return table


def _name(item: Classification | Embedding, warned: Warned, windows: Sequence[Warned] | None = None) -> str:
    """The name of a file and, below it, the warnings about what was seen of it."""
    lines = (f"[yellow]{escape(line)}[/]" for line in warning_lines(warned, windows))
    return "\n".join((escape(Path(item.name).name), *lines))


def _cells(found: Classification | WindowLabels) -> tuple[str, str, str, str]:
    """Best label, its score, η, and the next two. A clip that is unlike what the model knows is marked."""
    best, *others = found.labels
    label = escape(best.label)
    if found.unfamiliar:
        label = f"[yellow]unfamiliar[/]\n[dim]{label}[/]"
    others_text = escape("\n".join(map(label_text, others[:2])))
    return label, f"{best.score:.1%}", f"{found.reliability:.2f}", others_text


def print_embeddings(items: Sequence[Embedding | ItemError]) -> None:
    """Print a table with the first values and the length of each embedding; failures below it."""
    found = [item for item in items if isinstance(item, Embedding)]
    table = Table("clip", "dimensions", "embedding", "tokens")
    for item in found:
        vector = item.embedding if isinstance(item.embedding, list) else []
        table.add_row(
            _name(item, item.clip, item.timeline),
            str(len(vector)) if vector else "",
            ", ".join(f"{value:.3f}" for value in vector[:6]) + (" …" if vector else ""),
            f"{len(item.tokens)} × {len(item.tokens[0])}" if item.tokens else "",
        )
    if found:
        out.print(table)
    print_notes(items)


def print_notes(items: Sequence[Classification | Embedding | Caption | ItemError]) -> None:
    """Print why clips failed, warnings about the videos of timelines, and which frames are damaged."""
    for item in items:
        if isinstance(item, ItemError):
            err.print(f"[red]{item.error.code}:[/] {escape(item.error.message)}", highlight=False, soft_wrap=True)
            continue
        if isinstance(item, Classification) and item.timeline:  # its rows have only those of the windows
            for line in warning_lines(item.clip, item.timeline):
                err.print(f"[yellow]{escape(item.name)}:[/] {escape(line)}", highlight=False, soft_wrap=True)
        if item.clip.corrupt_frames:
            err.print(f"[yellow]{escape(item.name)}:[/] damaged frames {item.clip.corrupt_frames}", highlight=False)


def print_model(meta: ModelMetadata, path: str, provider: str, size_bytes: int) -> None:
    """Print the metadata of a model."""
    table = Table(show_header=False, title=path)
    table.add_row("name, version", f"{meta.name}, {meta.version}")
    table.add_row("trained on", meta.dataset)
    table.add_row("classes", str(len(meta.labels)))
    table.add_row("frames per element", f"{list(meta.sample_frames)} ({meta.layout}), context last")
    table.add_row("sees", {"rgb": "pictures", "pose": "joints", "both": "pictures and joints"}[meta.stream])
    if meta.pixels is not None:
        table.add_row("image", f"short side {meta.pixels.resize} px, centre crop {meta.pixels.size} px")
    if meta.sees_joints:
        persons = quantity(meta.persons, "person")
        table.add_row("joints", f"{len(meta.joints)} of {persons}: {', '.join(meta.joints)}")
        table.add_row("pose estimator", f"{meta.estimator}, SHA-256 {meta.estimator_sha256[:12]}…")
    if meta.pose_weight is not None:
        table.add_row("weight of the joints", f"{meta.pose_weight:g}, of the pictures {1 - meta.pose_weight:g}")
    table.add_row(
        "outputs",
        f"logits {len(meta.labels)}, embedding {meta.embedding_dim}, "
        f"tokens {len(meta.sample_frames)} × {meta.token_dim}, {meta.mc_samples} Monte-Carlo samples",
    )
    if meta.familiarity is not None:
        known = meta.familiarity
        table.add_row(
            "familiarity", f"{known.method}, {quantity(known.clips, 'clip')} against {known.held_out} held out"
        )
    if meta.temperature is not None:
        table.add_row("calibration", f"scores divided by {meta.temperature:.3g}")
    if meta.quantization is not None:
        lower = meta.quantization
        table.add_row(
            "precision",
            f"{lower.precision}; top-1 on {quantity(lower.clips, 'clip')} {100 * lower.top1:.1f} %, "
            f"{100 * lower.top1_fp32:.1f} % in fp32",
        )
    table.add_row("file", f"{size_bytes / 1e6:.1f} MB, runs on {provider}")
    out.print(table)
    names = Table("class", "label", "attributes")
    for i, label in enumerate(meta.labels):
        attributes = meta.attributes[i] if meta.attributes else {}
        names.add_row(str(i), label, ", ".join(f"{k} {v}" for k, v in attributes.items()))
    out.print(names)
