"""The training loop: epochs, learning rate, log and resumable state. What a step does is up to the task.

Supervised training, the semi-supervised methods and the pose pretext differ only in the step and in the evaluation
after each epoch. Accelerate handles devices, bf16, processes and trackers.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from sefar_serve.atomic import atomic_file
from sefar_serve.errors import SefarError

from .config import OptimConfig
from .data import ClipSources, Source, StepBatches, collate, seed_step
from .epochs import Best, Clock
from .run_folder import BEST, LOG, STATE

logger = logging.getLogger(__name__)

Batch = dict[str, Tensor]
Metrics = dict[str, Tensor]
Figures = dict[str, float]

TRACK_EVERY = 10
"""Steps between points of the trackers' curves."""


class RunError(SefarError, RuntimeError):
    """A run cannot start, resume or continue."""


class Step(Protocol):
    """What is done with one batch. An `nn.Module` whose state is everything that training changes."""

    def __call__(self, batch: Batch, epoch: int) -> tuple[Tensor, Metrics]:
        """Return the loss to minimise and scalar tensors to log; `epoch` counts from 0."""
        ...

    def updated(self, steps: int) -> None:
        """Called after the optimiser's step number `steps`, counted from 1."""
        ...


def _differences(a: dict[str, Any], b: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted keys at which two nested mappings differ."""
    found = []
    for key in sorted(a.keys() | b.keys()):
        x, y = a.get(key), b.get(key)
        if isinstance(x, dict) and isinstance(y, dict):
            found += _differences(x, y, f"{prefix}{key}.")
        elif x != y:
            found.append(f"{prefix}{key}")
    return found


@dataclass(frozen=True)
class RunFolder:
    """The folder with a run's log and resumable state.

    Attributes:
        path: the folder.
        fingerprint: what must be unchanged for a run to resume, as JSON values.
    """

    path: Path
    fingerprint: dict[str, Any]

    def open(self, resume: bool) -> dict[str, Any] | None:
        """Create the folder, and return the state to resume from if there is one.

        Raises:
            RunError: the folder has a run and `resume` is off, or its run had another recipe.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        state_file = self.path / STATE
        if not state_file.exists():
            return None
        if not resume:
            raise RunError(f"{self.path} already has a run; add --resume to resume it, or choose another out=")
        state: dict[str, Any] = torch.load(state_file, map_location="cpu", weights_only=True)
        if state["fingerprint"] != self.fingerprint:
            changed = ", ".join(_differences(state["fingerprint"], self.fingerprint))
            raise RunError(
                f"the run in {self.path} had another recipe ({changed} differs); resume it with that recipe, or "
                "choose another out="
            )
        return state

    def cut_log(self, epoch: int) -> None:
        """Remove the lines of `epoch` and later from the log, and any truncated line; they will be written again."""
        log = self.path / LOG
        if log.exists():
            lines = log.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if line.endswith("}") and json.loads(line)["epoch"] < epoch]
            with atomic_file(log) as new:
                new.write_text("".join(line + "\n" for line in kept), encoding="utf-8")

    def save(self, state: dict[str, Any]) -> None:
        """Write the resumable state atomically."""
        with atomic_file(self.path / STATE) as new:
            torch.save(state | {"fingerprint": self.fingerprint}, new)

    def log(self, line: dict[str, Any]) -> None:
        """Append one line to the log."""
        with (self.path / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


class TrainingLoop:
    """Runs epochs of a step over sources of clips.

    Args:
        step: what is done with one batch; an `nn.Module`, see `Step`.
        sources: the clips of each batch. The last source sets the length of an epoch, unless the recipe does.
        optim: epochs, batches and learning rate.
        folder: for log and state.
        accelerator: device, precision, processes, trackers.
        seed: seed of the order of clips and of all draws in steps.
        workers: processes that prepare batches, per training process.
        evaluate: returns figures to log after each epoch; called only in the main process.
        checkpoint_every: epochs between resumable states.
        checkpoint_steps: steps between resumable states inside an epoch; None for none.
        watch_from: epoch from which `optim.patience` counts.
        stoppable: Ctrl-C ends the run with the weights of the best epoch so far; without `optim.patience`, those of the
            last epoch that was saved.
        resume: resume the run in `folder`.
        progress: show a progress bar.

    Raises:
        RunError: `folder` has a run that must not be resumed, or batches cannot be split into equal parts.
    """

    def __init__(
        self,
        step: nn.Module,
        sources: Sequence[Source],
        optim: OptimConfig,
        folder: RunFolder,
        accelerator: Accelerator,
        *,
        seed: int,
        workers: int = 0,
        evaluate: Callable[[], Figures] | None = None,
        checkpoint_every: int = 1,
        checkpoint_steps: int | None = None,
        watch_from: int = 0,
        stoppable: bool = False,
        resume: bool = False,
        progress: bool = True,
    ) -> None:
        self.step = step
        self.optim = optim
        self.folder = folder
        self.accelerator = accelerator
        self.seed = seed
        self.evaluate = evaluate
        self.checkpoint_every = checkpoint_every
        self.checkpoint_steps = checkpoint_steps
        self.stoppable = stoppable
        self.progress = progress and accelerator.is_main_process
        _check_parts(sources, optim.accumulate, accelerator.num_processes)
        self.batches = StepBatches(
            sources,
            steps_per_epoch(sources, optim),
            seed,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
        )
        self.loader = DataLoader(
            ClipSources(sources),
            batch_sampler=self.batches,
            collate_fn=collate,
            num_workers=workers,
            multiprocessing_context="fork" if workers else None,
        )
        self.optimizer = create_optimizer(step, optim)
        self.epoch = 0
        self.best = Best(folder.path / BEST, optim.patience, watch_from)
        self._first_step = 0
        self._sums: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._last: dict[str, Any] = {}
        state = folder.open(resume)
        if state is not None:
            step.load_state_dict(state["step"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.epoch, self._first_step = state["epoch"], state["first_step"]
            self._sums, self._counts = Counter(state["sums"]), Counter(state["counts"])
            self._last = state["last"]
            logger.info("resuming %s at epoch %d, step %d", folder.path, self.epoch, self._first_step)
        if accelerator.is_main_process:
            folder.cut_log(self.epoch)
            self.best.open(resume=state is not None)
        self._forward, self.optimizer = accelerator.prepare(step, self.optimizer)

    def run(self) -> Figures:
        """Train until the last epoch, or until `optim.patience` or Ctrl-C ends it.

        Returns:
            The figures of the last epoch; if the run ended early, those of the epoch whose weights were kept.

        Raises:
            KeyboardInterrupt: before the first epoch ended, or the run is not `stoppable`.
        """
        self._clock = Clock(self.epoch * self.batches.steps + self._first_step)
        try:
            while self.epoch < self.optim.epochs:
                self._run_epoch()
                if self.accelerator.check_trigger():  # set in the main process, seen in all
                    logger.warning("stopped early: no better epoch in the last %d", self.optim.patience)
                    return self._keep()
        except KeyboardInterrupt:
            if not self.stoppable or not (self.folder.path / STATE).exists():
                raise
            logger.warning("stopped by Ctrl-C")
            return self._keep()
        return self._last

    def _run_epoch(self) -> None:
        started = time.perf_counter()
        line: dict[str, Any] = {"epoch": self.epoch, **self._train_epoch()}
        line["seconds"] = round(time.perf_counter() - started, 2)
        if self.accelerator.is_main_process:
            if self.evaluate is not None:
                line |= self.evaluate()
            self.folder.log(line)
            self._track(line, (self.epoch + 1) * self.batches.steps, "epoch")
            logger.info(" ".join(f"{key}={value:.4g}" for key, value in line.items()))
            if self.best.update(line, self.step.state_dict):
                self.accelerator.set_trigger()
        self.epoch += 1
        self._last = line
        if self.epoch % self.checkpoint_every == 0 or self.epoch == self.optim.epochs:
            self._save(first_step=0)
        self.accelerator.wait_for_everyone()

    def _keep(self) -> Figures:
        """Take the weights of the best epoch, or else of the last one that was saved."""
        kept = self.best.load() or torch.load(self.folder.path / STATE, map_location="cpu", weights_only=True)
        self.step.load_state_dict(kept["step"])
        line: Figures = kept["last"]
        logger.warning("the weights of epoch %d of %d are kept", line["epoch"] + 1, self.optim.epochs)
        return line

    def _train_epoch(self) -> Figures:
        self.step.train()
        self.batches.epoch, self.batches.first_step = self.epoch, self._first_step
        if not self._first_step:
            self._sums, self._counts = Counter(), Counter()
        bar = tqdm(
            self.loader,
            desc=f"epoch {self.epoch + 1}/{self.optim.epochs}",
            total=self.batches.steps,
            initial=self._first_step,
            disable=not self.progress,
        )
        for step, batch in enumerate(bar, start=self._first_step):
            done = self.epoch * self.batches.steps + step
            lr = self._set_learning_rate(done / self.batches.steps)
            seed_step(self.seed, done, self.accelerator.process_index)
            figures = self._train_step(batch)
            self.step.updated(done + 1)  # type: ignore[operator]
            self._sums.update(figures)
            self._counts.update(figures.keys())
            means = self._means()
            left = self._clock.left(done + 1, self.optim.epochs * self.batches.steps)
            shown = {key: f"{mean:.3f}" for key, mean in means.items()} | {"lr": f"{lr:.1e}", "run": f"{left} left"}
            bar.set_postfix(shown, refresh=False)
            if done % TRACK_EVERY == 0:
                self._track(figures | {"lr": lr}, done, "step")
            if self.checkpoint_steps and (step + 1) % self.checkpoint_steps == 0 and step + 1 < self.batches.steps:
                self._save(first_step=step + 1)
        self._first_step = 0
        return self._means() | {"lr": lr}

    def _train_step(self, batch: Batch) -> Figures:
        """Run forward and backward for one batch, in `accumulate` equal parts, and step the optimiser."""
        parts = self.optim.accumulate
        found: dict[str, list[float]] = {}
        self.optimizer.zero_grad(set_to_none=True)
        split = {key: value.chunk(parts) for key, value in batch.items()}
        for part in range(parts):
            moved = {key: value[part].to(self.accelerator.device, non_blocking=True) for key, value in split.items()}
            # Processes exchange gradients once, after the last part.
            alone = self.accelerator.no_sync(self._forward) if part + 1 < parts else nullcontext()
            with alone:
                loss, metrics = self._forward(moved, self.epoch)
                self.accelerator.backward(loss / parts)
            for key, value in ({"loss": loss.detach()} | metrics).items():
                found.setdefault(key, []).append(value.item())
        # Some parts lack some of the figures.
        figures = {key: sum(values) / len(values) for key, values in found.items()}
        if not math.isfinite(figures["loss"]):
            raise RunError(
                f"the loss became {figures['loss']} in epoch {self.epoch + 1}; "
                "try a lower optim.lr or a longer optim.warmup_epochs"
            )
        if self.optim.clip_grad is not None:
            self.accelerator.clip_grad_norm_(self.step.parameters(), self.optim.clip_grad)
        self.optimizer.step()
        return figures

    def _means(self) -> Figures:
        return {key: total / self._counts[key] for key, total in self._sums.items()}

    def _set_learning_rate(self, epoch: float) -> float:
        lr = self.optim.lr * schedule(epoch, self.optim)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        return lr

    def _track(self, figures: Figures, step: int, group: str) -> None:
        if self.accelerator.trackers:
            self.accelerator.log({f"{group}/{key}": value for key, value in figures.items()}, step=step)

    def _save(self, first_step: int) -> None:
        if self.accelerator.is_main_process:
            self.folder.save(
                {
                    "epoch": self.epoch,
                    "first_step": first_step,
                    "sums": dict(self._sums),
                    "counts": dict(self._counts),
                    "last": self._last,
                    "step": self.step.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                }
            )


def steps_per_epoch(sources: Sequence[Source], optim: OptimConfig) -> int:
    """Steps per epoch: as in the recipe, else one pass over the last source."""
    return optim.steps_per_epoch or math.ceil(len(sources[-1]) / sources[-1].batch_size)


def _check_parts(sources: Sequence[Source], accumulate: int, processes: int) -> None:
    """Check that batches split into equal parts; with unequal ones, averaging would change the gradient."""
    for source in sources:
        if source.batch_size % (accumulate * processes):
            raise RunError(
                f"a batch of {source.batch_size} clips cannot be split into {accumulate} equal parts for each of "
                f"{processes} processes; change batch_size or optim.accumulate"
            )


def create_accelerator(optim: OptimConfig, trackers: Sequence[str] = (), folder: Path | None = None) -> Accelerator:
    """Create the accelerator for the available device and processes (`accelerate launch` starts several).

    Args:
        optim: for the precision.
        trackers: names of Accelerate's trackers, e.g. ``tensorboard`` or ``wandb``.
        folder: for trackers that write files.
    """
    # Accelerate has one global state per process, but runs in the same process may differ in precision.
    AcceleratorState._reset_state()
    # Each process has its own batch statistics; averaged gradients keep the weights equal.
    # Processes wait while the first one evaluates, which may take longer than the default timeout of ten minutes.
    handlers = [
        DistributedDataParallelKwargs(broadcast_buffers=False),
        InitProcessGroupKwargs(timeout=timedelta(hours=12)),
    ]
    return Accelerator(
        mixed_precision="bf16" if optim.precision == "bf16" else "no",
        log_with=list(trackers) or None,
        project_dir=folder,
        kwargs_handlers=handlers,
    )


def create_optimizer(module: nn.Module, optim: OptimConfig) -> torch.optim.Optimizer:
    """Build the recipe's optimiser for the module's trainable parameters."""
    groups = parameter_groups(module, optim.weight_decay)
    if optim.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=optim.lr, momentum=optim.momentum, fused=True)
    return torch.optim.AdamW(groups, lr=optim.lr, fused=True)


def schedule(epoch: float, optim: OptimConfig) -> float:
    """Learning rate at a (fractional) epoch, as a share of the highest: linear warm-up, then cosine or steps."""
    if epoch < optim.warmup_epochs:
        # Never exactly zero: the first step should move.
        return max(epoch / optim.warmup_epochs, 0.01)
    if optim.schedule == "steps":
        return 0.1 ** sum(epoch >= milestone for milestone in optim.milestones)
    done = (epoch - optim.warmup_epochs) / max(optim.epochs - optim.warmup_epochs, 1e-9)
    return optim.final_lr + (1 - optim.final_lr) * (1 + math.cos(math.pi * min(done, 1))) / 2


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups for the optimiser: weight matrices with decay; biases, norms and embeddings without."""
    decayed, free = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_embedding = any(part in name for part in ("cls_token", "pos_embed", "time_embed", "motion.gate_"))
            (free if parameter.ndim < 2 or is_embedding else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]
