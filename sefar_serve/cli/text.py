"""`sefar caption` and `sefar ask`: texts about videos, in this process or through a gateway."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from pydantic import TypeAdapter

from sefar_serve.cli import console
from sefar_serve.cli.options import (
    EndOption,
    Files,
    JsonOption,
    KeyOption,
    ModelOption,
    StartOption,
    UrlOption,
)
from sefar_serve.language import CAPTION_PROMPT
from sefar_serve.schemas.chat import Caption
from sefar_serve.schemas.problem import ItemError

CaptionerOption = Annotated[
    str | None,
    typer.Option("--captioner", help="folder or hub id of an adapter (default: SEFAR_CAPTIONER, else the shipped one)"),
]
LengthOption = Annotated[int | None, typer.Option("--max-tokens", min=1, help="maximum length of the text in tokens")]
TemperatureOption = Annotated[
    float,
    typer.Option("--temperature", min=0, max=2, help="sampling temperature; 0 always takes the most likely token"),
]
SeedOption = Annotated[int | None, typer.Option("--seed", help="the same seed gives the same text")]
AbstainOption = Annotated[
    float | None,
    typer.Option(
        "--abstain-below", min=0, max=1, help="withhold a text that contradicts the classifier if η is below this"
    ),
]


def caption(
    files: Files,
    prompt: Annotated[str, typer.Option("--prompt", help="prompt for the language model")] = CAPTION_PROMPT,
    max_tokens: LengthOption = None,
    temperature: TemperatureOption = 0.0,
    seed: SeedOption = None,
    abstain_below: AbstainOption = None,
    start: StartOption = None,
    end: EndOption = None,
    model: ModelOption = None,
    captioner: CaptionerOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Describe each video in a sentence, with a notice if the classifier disagrees."""
    from sefar_serve.cli.files import Place, process

    kind = TypeAdapter[Caption | ItemError](Caption | ItemError)
    asked: dict[str, Any] = {
        "prompt": prompt,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "seed": seed,
        "abstain_below": abstain_below,
        "start": start,
        "end": end,
    }
    items = process(files, Place(model, captioner, url, api_key), "caption", kind, asked)
    if as_json:
        console.print_json(items)
    else:
        console.print_captions(items)
    console.exit_by(items)


def ask(
    file: Annotated[str, typer.Argument(metavar="FILE", help="video file, or URL", show_default=False)],
    question: Annotated[str, typer.Argument(help="a question about the video", show_default=False)],
    option: Annotated[
        list[str] | None, typer.Option("--option", help="an option to choose from; repeat it for each")
    ] = None,
    max_tokens: LengthOption = None,
    temperature: TemperatureOption = 0.0,
    seed: SeedOption = None,
    abstain_below: AbstainOption = None,
    start: StartOption = None,
    end: EndOption = None,
    model: ModelOption = None,
    captioner: CaptionerOption = None,
    url: UrlOption = None,
    api_key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a question about a video. With options (`A.… B.… C.… D.…` or --option), the most likely one is chosen."""
    from sefar_serve.cli import files

    asked: dict[str, Any] = {
        "options": option,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "seed": seed,
        "abstain_below": abstain_below,
        "start": start,
        "end": end,
    }
    item = files.ask(file, question, files.Place(model, captioner, url, api_key), asked)
    if as_json:
        console.print_json([item])
    elif isinstance(item, ItemError):
        console.print_captions([item])
    else:
        console.print_answer(item)
    console.exit_by([item])
