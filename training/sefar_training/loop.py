"""The training loop: epochs of steps, learning rate, log, resumable state. What a step does is given to it.

Supervised training, the pose pretext and later methods differ only in the step and in what is
evaluated after an epoch.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from .config import OptimConfig

logger = logging.getLogger(__name__)

Batch = dict[str, Tensor]
Metrics = dict[str, float]

STATE = "state.pt"
LOG = "log.jsonl"


class RunError(RuntimeError):
    """A run cannot start or continue in its folder."""


class Step(Protocol):
    """What is done with one batch: frames to a scalar loss and figures to show."""

    def __call__(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """Return the loss to minimise and per-batch means to log."""
        ...


class EpochSampler(Sampler[tuple[int, int]]):
    """Keys (epoch, index) of one shuffled pass; the order depends on (seed, epoch) alone."""

    def __init__(self, clips: Sized, seed: int) -> None:
        self._count = len(clips)
        self._seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(epoch_seed(self._seed, self.epoch))
        for index in torch.randperm(self._count, generator=generator).tolist():
            yield self.epoch, index


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps its log and its resumable state.

    Attributes:
        path: the folder.
        fingerprint: what must be equal for a state to be continued, as JSON values.
    """

    path: Path
    fingerprint: dict[str, Any]

    def open(self, resume: bool) -> dict[str, Any] | None:
        """Prepare the folder and return the state to continue from, if there is one.

        Raises:
            RunError: if a run is there and `resume` is off, or it was run by another recipe.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        state_file = self.path / STATE
        if not state_file.exists():
            return None
        if not resume:
            raise RunError(f"{self.path} holds a run; set resume=true to continue it, or choose another out=")
        state: dict[str, Any] = torch.load(state_file, map_location="cpu", weights_only=True)
        if state["fingerprint"] != self.fingerprint:
            raise RunError(f"{self.path} was trained by another recipe; continue it with that, or choose another out=")
        lines = (self.path / LOG).read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if json.loads(line)["epoch"] < state["epoch"]]
        (self.path / LOG).write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Write the resumable state, whole or not at all."""
        new = self.path / (STATE + ".new")
        torch.save(state | {"fingerprint": self.fingerprint}, new)
        new.replace(self.path / STATE)

    def log(self, line: dict[str, Any]) -> None:
        """Append one line to the log."""
        with (self.path / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


class TrainingLoop:
    """Runs epochs of a step over a data set.

    Args:
        model: everything the optimiser trains.
        step: what is done with one batch; its model is `model` or part of it.
        clips: map-style data set keyed by (epoch, index).
        optim: epochs, batches and learning rate.
        folder: where log and state go.
        seed: of the order of clips and of dropout.
        device: where batches are moved.
        workers: processes preparing batches.
        evaluate: figures to log after each epoch.
        checkpoint_every: epochs between resumable states.
        resume: continue the state found in `folder`.
        progress: show a bar.
    """

    def __init__(
        self,
        model: nn.Module,
        step: Step,
        clips: Dataset[Any],
        optim: OptimConfig,
        folder: RunFolder,
        *,
        seed: int,
        device: torch.device,
        workers: int = 0,
        evaluate: Callable[[], Metrics] | None = None,
        checkpoint_every: int = 1,
        resume: bool = False,
        progress: bool = True,
    ) -> None:
        self.model = model
        self.step = step
        self.optim = optim
        self.folder = folder
        self.seed = seed
        self.device = device
        self.evaluate = evaluate
        self.checkpoint_every = checkpoint_every
        self.progress = progress
        self.sampler = EpochSampler(clips, seed)  # type: ignore[arg-type]
        # A last batch of a few clips would give batch normalisation and the step a noisy estimate.
        drop_last = len(self.sampler) > optim.batch_size
        self.loader = DataLoader(
            clips,
            batch_size=optim.batch_size,
            sampler=self.sampler,
            num_workers=workers,
            drop_last=drop_last,
            multiprocessing_context="fork" if workers else None,
        )
        self.optimizer = torch.optim.AdamW(parameter_groups(model, optim.weight_decay), lr=optim.lr, fused=True)
        self.epoch = 0
        state = folder.open(resume)
        if state is not None:
            model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.epoch = state["epoch"]
            logger.info("continuing %s at epoch %d", folder.path, self.epoch)

    def run(self) -> Metrics:
        """Train to the last epoch.

        Returns:
            The last epoch's figures.
        """
        line: dict[str, Any] = {}
        while self.epoch < self.optim.epochs:
            started = time.perf_counter()
            line = {"epoch": self.epoch, **self._train_epoch()}
            line["seconds"] = round(time.perf_counter() - started, 2)
            if self.evaluate is not None:
                line |= self.evaluate()
            self.folder.log(line)
            logger.info(" ".join(f"{k}={v:.4g}" for k, v in line.items()))
            self.epoch += 1
            if self.epoch % self.checkpoint_every == 0 or self.epoch == self.optim.epochs:
                self._save()
        return line

    def _train_epoch(self) -> Metrics:
        self.model.train()
        self.sampler.epoch = self.epoch
        # Seeding every epoch anew makes a resumed run equal to an unbroken one on any device.
        torch.manual_seed(epoch_seed(self.seed, self.epoch))
        sums: dict[str, float] = defaultdict(float)
        bar = tqdm(self.loader, desc=f"epoch {self.epoch + 1}/{self.optim.epochs}", disable=not self.progress)
        for number, batch in enumerate(bar):
            lr = self._set_learning_rate(self.epoch + number / len(self.loader))
            batch = {key: value.to(self.device, non_blocking=True) for key, value in batch.items()}
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.optim.precision == "bf16"):
                loss, metrics = self.step(batch)
            if not math.isfinite(loss.item()):
                raise RunError(
                    f"the loss became {loss.item()} in epoch {self.epoch + 1}; "
                    "try a lower optim.lr or a longer optim.warmup_epochs"
                )
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.optim.clip_grad)
            self.optimizer.step()
            for key, value in ({"loss": loss.item()} | metrics).items():
                sums[key] += value
            bar.set_postfix({key: f"{total / (number + 1):.3f}" for key, total in sums.items()}, lr=f"{lr:.1e}")
        return {key: total / len(self.loader) for key, total in sums.items()} | {"lr": lr}

    def _set_learning_rate(self, epoch: float) -> float:
        lr = self.optim.lr * schedule(epoch, self.optim)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        return lr

    def _save(self) -> None:
        self.folder.save(
            {
                "epoch": self.epoch,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            }
        )


def epoch_seed(seed: int, epoch: int) -> int:
    """A seed for one epoch of a run, far from those of other epochs and other runs."""
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0])


def schedule(epoch: float, optim: OptimConfig) -> float:
    """Share of the highest learning rate at a (fractional) epoch: linear warm-up, then a cosine."""
    if epoch < optim.warmup_epochs:
        # Never exactly zero: the first step should move.
        return max(epoch / optim.warmup_epochs, 0.01)
    done = (epoch - optim.warmup_epochs) / max(optim.epochs - optim.warmup_epochs, 1e-9)
    return optim.final_lr + (1 - optim.final_lr) * (1 + math.cos(math.pi * min(done, 1))) / 2


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups for the optimiser: weight matrices under decay; biases, norms, embeddings without."""
    decayed, free = [], []
    for name, parameter in model.named_parameters():
        is_embedding = any(part in name for part in ("cls_token", "pos_embed", "time_embed"))
        (free if parameter.ndim < 2 or is_embedding else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]
