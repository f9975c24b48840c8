"""The commands `sefar adapter …`: train and evaluate captioners, compare features, check files of questions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape
from rich.table import Column, Table

from sefar_serve.atomic import atomic_file
from sefar_serve.cli import console
from sefar_serve.cli.options import path_prefixes
from sefar_serve.logs import configure_logging
from sefar_serve.optional import needs_extra

from .options import DeviceOption, Overrides, RemapOption, RootOption

app = typer.Typer(
    name="adapter",
    no_args_is_help=True,
    help="Train and evaluate adapters, which let a language model caption clips and answer questions.",
)

JsonOption = Annotated[bool, typer.Option("--json", help="print JSON")]


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="YAML file, or a recipe that ships, e.g. synthgym_adapter")],
    overrides: Overrides = None,
) -> None:
    """Train an adapter from a recipe."""
    with needs_extra("train"):
        from sefar_training.adapter.config import AdapterRecipe, load_adapter_recipe
        from sefar_training.adapter.train import train_adapter
        from sefar_training.recipe import find_recipe
    configure_logging("info", "text")
    found = find_recipe(recipe, AdapterRecipe)
    typer.echo(f"adapter: {train_adapter(load_adapter_recipe(found, overrides or []))}")


@app.command()
def evaluate(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="adapter folder, or hub id")],
    list_file: Annotated[Path, typer.Argument(metavar="LIST", help="list of clips that it was not trained on")],
    encoder: Annotated[Path, typer.Option("--encoder", help="ONNX file of the encoder that it was trained with")],
    root: RootOption = Path(),
    remap: RemapOption = None,
    referee: Annotated[
        Path | None,
        typer.Option("--referee", help="encoder whose classifier gives the hard options (default: --encoder)"),
    ] = None,
    questions: Annotated[
        Path | None, typer.Option("--questions", help="file of additional questions in the authors' format")
    ] = None,
    mode: Annotated[
        Literal["loglik", "letter", "generate"],
        typer.Option("--mode", help="take the most probable option, the most probable letter, or generate freely"),
    ] = "loglik",
    blind: Annotated[bool, typer.Option("--blind", help="replace features by zeros")] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="largest number of clips with questions (default: all)")
    ] = None,
    cache: Annotated[Path | None, typer.Option("--cache", help="folder to cache features in")] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="clips per batch")] = 32,
    device: DeviceOption = "auto",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="also write the results to this JSON file")] = None,
    as_json: JsonOption = False,
) -> None:
    """Evaluate captions and answers on a list of clips, next to the encoder's own classifier."""
    with needs_extra("train"):
        from sefar_training.adapter.evaluate import evaluate_folder
        from sefar_training.adapter.report import report_rows
    report = evaluate_folder(
        folder,
        list_file,
        root,
        encoder,
        remap=path_prefixes(remap),
        referee=referee,
        questions=questions,
        mode=mode,
        blind=blind,
        limit=limit,
        cache=cache,
        batch_size=batch_size,
        device=device,
    )
    text = report.model_dump_json(indent=1)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(out) as new:
            new.write_text(text + "\n", encoding="utf-8")
    if as_json:
        typer.echo(text)
        return
    looks = "blind" if report.blind else report.encoder
    table = Table(
        "per cent",
        Column("adapter", justify="right"),
        Column("classifier", justify="right"),
        title=escape(f"{report.adapter} on {looks}, {report.clips} clips"),
    )
    for row in report_rows(report):
        table.add_row(*map(escape, row))
    console.out.print(table)
    for example in report.examples:
        console.out.print(f"{escape(example.label)}: {escape(example.caption)}", highlight=False, soft_wrap=True)


@app.command()
def compare(
    comparison: Annotated[
        Path, typer.Argument(help="YAML file, or a comparison that ships, e.g. synthgym_adapter_compare")
    ],
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="folder (default: runs/NAME)")] = None,
) -> None:
    """Train a recipe's variants with several seeds, ask them the same questions, and compare the results."""
    with needs_extra("train"):
        from sefar_training.adapter.compare import Comparison, load_comparison, run_comparison
        from sefar_training.adapter.comparison_page import write_comparison
        from sefar_training.recipe import find_recipe
    configure_logging("info", "text")
    plan = load_comparison(find_recipe(comparison, Comparison))
    folder = out or Path("runs") / comparison.stem
    finished = run_comparison(plan, folder, overrides or [])
    for written in write_comparison(plan, finished, folder):
        typer.echo(str(written))


@app.command()
def questions(
    file: Annotated[Path, typer.Argument(help="JSON file of questions in the authors' format")],
    as_json: JsonOption = False,
) -> None:
    """Check a file of multiple-choice questions, and count what is in it."""
    with needs_extra("train"):
        from sefar_training.adapter.questions import count_questions, read_questions
    counts = count_questions(read_questions(file))
    if as_json:
        typer.echo(counts.model_dump_json())
        return
    letters = ", ".join(f"{letter} {count}" for letter, count in counts.letters.items())
    datasets = ", ".join(f"{name or 'unnamed'} {count}" for name, count in counts.datasets.items())
    typer.echo(f"{counts.questions} questions ({datasets}); right answers: {letters}")
    typer.echo(
        f"{counts.duplicates} questions have duplicate options; in {counts.duplicate_answers} of them the right option "
        "is duplicated, and both count as right"
    )
