"""Cost of one SeFAR training step: the released implementation's arithmetic against ours, ViT-S, batch 2.

The release runs the backbone once per temporal element, the whole teacher ten times, and every layer for every
token, in fp32. Ours runs all elements in one pass, the teacher's backbone once with ten draws of the head, the last
layer for class tokens only, and labelled, strong and mixed clips in one batch; then the same under bf16 autocast. Both
have the same weights and take the same kind of step: losses, backward, SGD, moving average.

Each variant runs in its own process, so that peak memory is measured per variant, and they take turns step by step.
Reported is the median over rounds of the ratio of times within a round. First, all compute the loss of one batch
without dropout and with the same mixing; the losses must agree.

Run: python benchmarks/train_step.py [--rounds N] [--batch N] [--threads N] [--json FILE]
"""

from __future__ import annotations

import argparse
import ctypes
import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from rich.table import Table
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from sefar_serve.cores import available_cores
from sefar_training.config import SemiConfig
from sefar_training.model import FrameNormalizer, SefarModel, create_model
from sefar_training.model.block import ElementGroups
from sefar_training.semisupervised import (
    ClassificationStep,
    draw_mix,
    mix_targets,
    mixing_loss,
    monte_carlo,
    perturb,
    pseudo_label_loss,
    pseudo_labels,
    regulation,
)

SAMPLE_FRAMES, CLASSES, SEED = (2, 2, 4), 99, 0
VARIANTS = ("released fp32", "ours fp32", "ours bf16")
TOLERANCE = {"ours fp32": 1e-4, "ours bf16": 2e-2}
"""Largest relative difference from the loss of the released arithmetic."""

Batch = dict[str, Tensor]


class ReleasedStep(nn.Module):
    """The step as the release computes it: three backbone passes in each of thirteen passes over the clips.

    The losses are this project's; only the arithmetic is the release's.
    """

    def __init__(self, student: SefarModel, normalizer: FrameNormalizer, config: SemiConfig) -> None:
        super().__init__()
        self.student = student
        self.normalizer = normalizer
        self.config = config
        self.average = ModelEmaV3(student, decay=config.teacher_decay)
        self.average.requires_grad_(False)

    def forward(self, batch: Batch, epoch: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of one batch, as `ClassificationStep` gives it."""
        strong = perturb(batch["strong"], SAMPLE_FRAMES, "moderate")
        with torch.no_grad():
            teacher, weak = self.average.module, self.normalizer(batch["weak"])
            samples = []
            for _ in range(self.config.mc_samples):
                tokens = by_element(teacher, weak)
                samples.append(monte_carlo(teacher.head, tokens, 1)[:, 0])
            answer = pseudo_labels(torch.stack(samples, dim=1))
            weight = regulation(answer.mean, answer.deviation)
        logits = self.student.head(by_element(self.student, self.normalizer(batch["inputs"])))[1]
        loss = F.cross_entropy(logits, batch["label"])
        strong = self.normalizer(strong)
        logits = self.student.head(by_element(self.student, strong))[1]
        loss = loss + self.config.pseudo_weight * pseudo_label_loss(logits, answer.label, weight)
        patches = self.student.backbone.patch_embed.num_patches
        mix = draw_mix(len(strong), len(SAMPLE_FRAMES), patches, self.config.mix_alpha)
        logits = self.student.head(by_element(self.student, strong, mix))[1]
        targets, weights = mix_targets(answer.probabilities, mix), mix_targets(weight, mix)
        return loss + self.config.mix_weight * mixing_loss(logits, targets, weights), {}

    def updated(self, steps: int) -> None:
        """Update the moving average."""
        self.average.update(self.student, step=steps)


def by_element(model: SefarModel, frames_BFCHW: Tensor, mix: object = None) -> Tensor:
    """Element tokens (B,E,D), each element through every layer on its own."""
    tokens = []
    parts = frames_BFCHW.split(SAMPLE_FRAMES, dim=1)
    for element, part in enumerate(parts):
        with only(model, element):
            cls_BED, x_BFND = model.backbone.embed(part)
            if mix is not None:
                keep_BN = mix.keep_BEN[:, element]
                x_BFND = torch.where(keep_BN[:, None, :, None], x_BFND, x_BFND[mix.other])
            for block in model.backbone.blocks:
                cls_BED, x_BFND = block(cls_BED, x_BFND)
            tokens.append(model.backbone.norm(cls_BED))
    return torch.cat(tokens, dim=1)


@contextmanager
def only(model: SefarModel, element: int) -> Iterator[None]:
    """Restrict the backbone to one element."""
    backbone = model.backbone
    kept = backbone.sample_frames, backbone.groups, backbone.time_embed
    groups = ElementGroups((SAMPLE_FRAMES[element],))
    backbone.sample_frames, backbone.groups = (SAMPLE_FRAMES[element],), groups
    backbone.time_embed = nn.ParameterList([kept[2][element]])
    for block in backbone.blocks:
        block.groups = groups
    try:
        yield
    finally:
        backbone.sample_frames, backbone.groups, backbone.time_embed = kept
        for block in backbone.blocks:
            block.groups = kept[1]


def make_batch(size: int) -> Batch:
    generator = torch.Generator().manual_seed(SEED)

    def frames() -> Tensor:
        return torch.randint(0, 256, (size, 8, 224, 224, 3), dtype=torch.uint8, generator=generator)

    numbers = torch.arange(size)
    return {
        "inputs": frames(),
        "label": numbers,
        "weak": frames(),
        "strong": frames(),
        "clip": numbers,
        "hidden_label": numbers,
    }


def make_step(variant: str, dropout: float) -> nn.Module:
    torch.manual_seed(SEED)
    student = create_model("small", CLASSES, SAMPLE_FRAMES, dropout=dropout)
    for block in student.backbone.blocks:  # a trained model's temporal attention is not zero
        nn.init.trunc_normal_(block.temporal_fc.weight, std=0.02)
    student.backbone.set_fused_attention(variant != "ours bf16")
    normalizer = FrameNormalizer((0.45,) * 3, (0.225,) * 3)
    config = SemiConfig(start_epoch=0, ramp=False, teacher_warmup=False)
    if variant.startswith("released"):
        return ReleasedStep(student, normalizer, config).train()
    return ClassificationStep(student, normalizer, "sefar", config, "moderate", 1, 8).train()


def serve(variant: str, batch_size: int, threads: int, pipe: Connection) -> None:
    """Run in a process: take one step per message."""
    torch.set_num_threads(threads)
    batch = make_batch(batch_size)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=variant.endswith("bf16"))

    step = make_step(variant, dropout=0.0)
    torch.manual_seed(SEED)
    with autocast:
        pipe.send(step(batch, 0)[0].item())
    del step
    give_back()

    step = make_step(variant, dropout=0.5)
    optimizer = torch.optim.SGD(step.student.parameters(), lr=0.005, momentum=0.9, weight_decay=1e-3)
    while pipe.recv():
        started = time.perf_counter()
        with autocast:
            loss = step(batch, 0)[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step.updated(2)
        taken = time.perf_counter() - started
        del loss
        give_back()
        pipe.send(taken)
    pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def give_back() -> None:
    """Return freed memory to the system, so that the idle variants do not hold their peak memory."""
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=2, help="number of labelled clips, and of unlabelled ones")
    parser.add_argument("--threads", type=int, default=available_cores())
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    console = Console()
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    losses: dict[str, float] = {}
    for variant in VARIANTS:
        pipes[variant], theirs = context.Pipe()
        context.Process(target=serve, args=(variant, options.batch, options.threads, theirs), daemon=True).start()
        losses[variant] = pipes[variant].recv()
    for variant, tolerance in TOLERANCE.items():
        difference = abs(losses[variant] / losses[VARIANTS[0]] - 1)
        if difference > tolerance:
            raise SystemExit(f"{variant}: loss {losses[variant]}, not {losses[VARIANTS[0]]} within {tolerance}")

    seconds: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for number in track(range(options.rounds + 1), "steps", console=console):
        for variant in VARIANTS[number % 3 :] + VARIANTS[: number % 3]:
            pipes[variant].send(True)
            taken = pipes[variant].recv()
            if number:  # the first round warms up
                seconds[variant].append(taken)
    table = Table("variant", "seconds per step", "times faster", "(range)", "loss", "peak memory, MiB")
    results = []
    for variant in VARIANTS:
        pipes[variant].send(False)
        peak = pipes[variant].recv()
        ratios = [a / b for a, b in zip(seconds[VARIANTS[0]], seconds[variant], strict=True)]
        median = statistics.median(ratios)
        results.append(
            {
                "variant": variant,
                "seconds": seconds[variant],
                "faster": median,
                "loss": losses[variant],
                "peak_mib": peak,
            }
        )
        table.add_row(
            variant,
            f"{statistics.median(seconds[variant]):.2f}",
            f"{median:.2f}",
            f"{min(ratios):.2f} to {max(ratios):.2f}",
            f"{losses[variant]:.6f}",
            f"{peak:.0f}",
        )
    console.print(table)
    console.print(f"ViT-S, {options.batch} + {options.batch} clips, {options.threads} threads, {options.rounds} rounds")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
