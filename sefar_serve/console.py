"""How results look in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sefar_serve.metadata import ModelMetadata
from sefar_serve.schemas import Classification, Embedding, ItemError, Label, SourceFrame

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


def print_classifications(items: Sequence[Classification | ItemError]) -> None:
    """A table of labels: one row per clip, or per window where there is a timeline."""
    table = Table(show_lines=True)
    table.add_column("clip", overflow="fold")
    if any(isinstance(item, Classification) and item.timeline for item in items):
        table.add_column("seconds", justify="right")
    table.add_column("label", overflow="fold")
    table.add_column("score", justify="right")
    table.add_column("η", justify="right")
    table.add_column("next best", overflow="fold")
    with_time = len(table.columns) == 6
    for item in items:
        if isinstance(item, ItemError):
            table.add_row(
                item.name, *[""] * with_time, f"[red]{item.error.code}[/]", "", "", escape(item.error.message)
            )
            continue
        if item.timeline is None:
            table.add_row(item.name, *["all"] * with_time, *_cells(item.labels, item.reliability))
            continue
        for window in item.timeline:
            when = f"{window.start:.1f}–{window.end:.1f}"
            table.add_row(item.name, when, *_cells(window.labels, window.reliability))
    out.print(table)
    print_notes(items)


def _cells(labels: Sequence[Label], reliability: float) -> tuple[str, str, str, str]:
    """Best label, its score, η, and the next two."""
    best, *others = labels
    return best.label, f"{best.score:.1%}", f"{reliability:.2f}", "\n".join(map(label_text, others[:2]))


def print_embeddings(items: Sequence[Embedding | ItemError]) -> None:
    """A table that shows the beginning and the length of each embedding."""
    table = Table("clip", "dimensions", "embedding", "tokens")
    for item in items:
        if isinstance(item, ItemError):
            table.add_row(item.name, "", f"[red]{item.error.code}[/] {escape(item.error.message)}", "")
        else:
            vector = item.embedding if isinstance(item.embedding, list) else []
            table.add_row(
                item.name,
                str(len(vector)) if vector else "",
                ", ".join(f"{value:.3f}" for value in vector[:6]) + (" …" if vector else ""),
                f"{len(item.tokens)} × {len(item.tokens[0])}" if item.tokens else "",
            )
    out.print(table)
    print_notes(items)


def print_notes(items: Sequence[Classification | Embedding | ItemError]) -> None:
    """What the decoder had to say about each clip."""
    for item in items:
        if isinstance(item, ItemError):
            continue
        for warning in item.clip.warnings:
            err.print(f"[yellow]{escape(item.name)}: {escape(warning)}[/]")
        if item.clip.corrupt_frames:
            err.print(f"[yellow]{item.name}: damaged frames {item.clip.corrupt_frames}[/]")


def print_model(meta: ModelMetadata, path: str, provider: str, size_bytes: int) -> None:
    """A model's own description."""
    table = Table(show_header=False, title=path)
    table.add_row("name, version", f"{meta.name}, {meta.version}")
    table.add_row("trained on", meta.dataset)
    table.add_row("classes", str(len(meta.labels)))
    table.add_row("frames per element", f"{list(meta.sample_frames)} ({meta.layout}), context last")
    table.add_row("picture", f"short side {meta.resize}, central square of {meta.size} px")
    table.add_row(
        "outputs",
        f"logits {len(meta.labels)}, embedding {meta.embedding_dim}, "
        f"tokens {len(meta.sample_frames)} × {meta.token_dim}, {meta.mc_samples} Monte-Carlo samples",
    )
    table.add_row("file", f"{size_bytes / 1e6:.1f} MB, runs on {provider}")
    out.print(table)
    names = Table("class", "label", "attributes")
    for i, label in enumerate(meta.labels):
        attributes = meta.attributes[i] if meta.attributes else {}
        names.add_row(str(i), label, ", ".join(f"{k} {v}" for k, v in attributes.items()))
    out.print(names)
