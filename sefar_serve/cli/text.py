"""`sefar caption` and `sefar ask`: what a language model says of videos, in this process or through a gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter

from sefar_serve.assemble import make_generator
from sefar_serve.cli import console
from sefar_serve.cli.options import (
    EndOption,
    Files,
    JsonOption,
    KeyOption,
    ModelOption,
    StartOption,
    UrlOption,
    engine_of,
    settings_for,
)
from sefar_serve.language import CAPTION_PROMPT, ClipFeatures, GenerationOptions, Generator, Message
from sefar_serve.language.captions import Captioned, render_caption
from sefar_serve.language.choices import join_choices, split_choices
from sefar_serve.language.replies import Verdict, answer, choose
from sefar_serve.metadata import ModelMetadata
from sefar_serve.optional import optional_module
from sefar_serve.recognition import Recognised, Span
from sefar_serve.schemas import render
from sefar_serve.schemas.chat import Caption, ChatCompletion
from sefar_serve.schemas.problem import ItemError
from sefar_serve.settings import Settings

CaptionerOption = Annotated[
    str | None,
    typer.Option("--captioner", help="folder or hub id of an adapter (default: SEFAR_CAPTIONER, else the shipped one)"),
]
LengthOption = Annotated[int | None, typer.Option("--max-tokens", min=1, help="longest text in tokens")]
TemperatureOption = Annotated[
    float, typer.Option("--temperature", min=0, max=2, help="0 takes the likeliest word each time")
]
SeedOption = Annotated[int | None, typer.Option("--seed", help="the same seed gives the same text")]
AbstainOption = Annotated[
    float | None,
    typer.Option(
        "--abstain-below", min=0, max=1, help="η under which a text that contradicts the classifier is withheld"
    ),
]


def caption(
    files: Files,
    prompt: Annotated[str, typer.Option("--prompt", help="what the language model is asked")] = CAPTION_PROMPT,
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
    """Describe videos in a sentence each, and say where the classifier sees something else."""
    from sefar_serve.cli.files import run_locally, run_remotely

    if url is None:
        settings = settings_for(model, captioner)
        generator = _generator(settings)
        options = GenerationOptions(max_tokens, temperature, seed=seed)
        threshold = settings.abstain_below if abstain_below is None else abstain_below

        async def describe(index: int, found: Recognised, meta: ModelMetadata) -> Caption:
            generator.fits(meta)
            window = found.windows[0]
            messages = [Message("user", (_features(found), prompt))]
            verdict = Verdict.of(window.prediction.outputs, meta)
            reply = await answer(generator, messages, options, verdict, threshold)
            return render_caption([Captioned(window, reply)], meta, index=index, name=found.name)

        items = run_locally(files, *engine_of(settings), Span(start, end), describe, generator)
    else:
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
        items = run_remotely(files, url, api_key, "caption", kind, asked)
    if as_json:
        console.print_json(items)
    else:
        console.print_captions(items)
    console.exit_by(items)


def ask(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="video file", show_default=False)],
    question: Annotated[str, typer.Argument(help="a question about it", show_default=False)],
    option: Annotated[
        list[str] | None, typer.Option("--option", help="a choice; give several, and they are judged by likelihood")
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
    """Ask a question about a video; one with options (`A.… B.… C.… D.…`, or --option) is answered by likelihood."""
    from sefar_serve.cli.files import ask_remotely, run_locally

    options = GenerationOptions(max_tokens, temperature, seed=seed)
    if url is None:
        settings = settings_for(model, captioner)
        generator = _generator(settings)
        threshold = settings.abstain_below if abstain_below is None else abstain_below

        async def reply(index: int, found: Recognised, meta: ModelMetadata) -> ChatCompletion:
            generator.fits(meta)
            return await _answer(generator, question, option or [], options, threshold, found, meta)

        [item] = run_locally([file], *engine_of(settings), Span(start, end), reply, generator)
    else:
        more = {"options": option, "abstain_below": abstain_below, "start": start, "end": end}
        asked = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
        item = ask_remotely(file, question, url, api_key, {**asked, **more})
    if as_json:
        console.print_json([item])
    elif isinstance(item, ItemError):
        console.print_captions([item])
    else:
        console.print_answer(item)
    console.exit_by([item])


async def _answer(
    generator: Generator,
    question: str,
    given: list[str],
    options: GenerationOptions,
    threshold: float,
    found: Recognised,
    meta: ModelMetadata,
) -> ChatCompletion:
    from sefar_serve.language.completion import Envelope

    window = found.windows[0]
    verdict = Verdict.of(window.prediction.outputs, meta)
    written = split_choices(question)
    choices = tuple(given) or (() if written is None else written[1])
    text = join_choices(question, choices) if given else question
    messages = [Message("user", (_features(found), text))]
    if choices:
        reply = await choose(generator, messages, choices, verdict, threshold)
    else:
        reply = await answer(generator, messages, options, verdict, threshold)
    seen = render.seen_clip(window, meta, name=found.name, clip_id=None)
    return Envelope("answer", generator.info.name, [seen]).completion(reply)


def _features(found: Recognised) -> ClipFeatures:
    outputs = found.windows[0].prediction.outputs
    return ClipFeatures(outputs.embedding, outputs.tokens)


def _generator(settings: Settings) -> Generator:
    """The language model.

    Raises:
        ModuleNotFoundError: there is none to be had without packages that are not installed.
        ValueError: the settings want none.
    """
    generator = make_generator(settings)
    if generator is None:
        optional_module("sefar_serve.mllm.generator", extra="mllm")
        raise ValueError("SEFAR_CAPTIONER is `none`; name an adapter with --captioner")
    return generator
