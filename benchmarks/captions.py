"""Cost of writing captions: transformers one clip at a time, and the gateway's generator, alone and in batches.

Three ways to the same texts, all with the shipped adapter, take turns in every round, on precomputed features:

- transformers    `model.generate` for one clip after another
- generator, 1    the gateway's generator with batches of one: queue, threads, streamed text
- generator, 8    the same with batches of up to 8

Throughput is measured with many concurrent clients. Reported is the median over rounds of ratios within a round.

Run: python benchmarks/captions.py [--adapter FOLDER] [--clips N] [--clients N] [--rounds N] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from sefar_serve.language import CAPTION_PROMPT, ClipFeatures, GenerationOptions, Message
from sefar_serve.mllm.adapter import Adapter, load_adapter
from sefar_serve.mllm.generator import LocalGenerator
from sefar_serve.mllm.prompt import make_prompt
from sefar_serve.settings import shipped_captioner

OPTIONS = GenerationOptions(max_tokens=48)
Job = Callable[[Sequence[ClipFeatures], int], Awaitable[list[str]]]


def asked(clip: ClipFeatures) -> list[Message]:
    """The messages about one clip."""
    return [Message("user", (clip, CAPTION_PROMPT))]


def plain(adapter: Adapter) -> Job:
    """One clip after another, as a script would do it."""

    async def job(clips: Sequence[ClipFeatures], _: int) -> list[str]:
        texts = []
        for clip in clips:
            prompt = make_prompt(adapter.processor, asked(clip))
            with torch.inference_mode():
                out = adapter.model.generate(
                    torch.tensor([prompt.ids]),
                    sefar_embedding=prompt.sefar_embedding,
                    sefar_tokens=prompt.sefar_tokens,
                    max_new_tokens=OPTIONS.max_tokens,
                    do_sample=False,
                )
            texts.append(adapter.processor.tokenizer.decode(out[0, len(prompt.ids) :], skip_special_tokens=True))
        return texts

    return job


def through(generator: LocalGenerator) -> Job:
    """Concurrent clients, each sending its next clip when the last one is answered."""

    async def job(clips: Sequence[ClipFeatures], clients: int) -> list[str]:
        texts = [""] * len(clips)
        waiting = iter(enumerate(clips))

        async def client() -> None:
            for number, clip in waiting:
                async for piece in generator.generate(asked(clip), OPTIONS):
                    texts[number] += piece.text

        await asyncio.gather(*(client() for _ in range(clients)))
        return texts

    return job


async def measure(options: argparse.Namespace) -> dict[str, list[float]]:
    """Captions per second of each way, by round."""
    adapter = load_adapter(options.adapter)
    config, rng = adapter.model.config, np.random.default_rng(0)
    clips = [
        ClipFeatures(
            rng.normal(size=config.embedding_dim).astype(np.float32),
            rng.normal(size=(config.elements, config.token_dim)).astype(np.float32),
        )
        for _ in range(options.clips)
    ]
    async with AsyncExitStack() as running:
        ways = {"transformers": plain(adapter)}
        for batch in (1, 8):
            generator = LocalGenerator(adapter, max_batch=batch)
            await generator.start()
            running.push_async_callback(generator.close)
            ways[f"generator, {batch}"] = through(generator)
        found: dict[str, list[float]] = {name: [] for name in ways}
        texts: dict[str, list[str]] = {}
        for number in track(range(options.rounds + 1), "rounds", console=Console(stderr=True)):
            for name in list(ways) if number % 2 else list(reversed(ways)):
                started = time.perf_counter()
                texts[name] = await ways[name](clips, options.clients)
                if number:  # the first round warms up
                    found[name].append(len(clips) / (time.perf_counter() - started))
        same = sum(len(set(several)) == 1 for several in zip(*texts.values(), strict=True))
        Console().print(f"{same} of {len(clips)} texts are the same in all three")
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--adapter", type=Path, default=shipped_captioner())
    parser.add_argument("--clips", type=int, default=64, help="number of clips in each round and way")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = asyncio.run(measure(options))
    table = Table("", "captions/s", "of transformers")
    for name, rates in found.items():
        ratios = [a / b for a, b in zip(rates, found["transformers"], strict=True)]
        table.add_row(
            name,
            f"{statistics.median(rates):.3g}",
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        )
    Console().print(table)
    Console().print(f"{options.adapter}: {options.clips} clips, {options.clients} clients, {options.rounds} rounds")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
