"""What a run trains: a step, the clips it takes, and the models that come out.

`sefar_training.train.find_task` finds a task by the name that a recipe gives it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from .config import TrainConfig
from .data import FrameStore, Source
from .model import FrameNormalizer, SefarModel


@dataclass(frozen=True)
class Setup:
    """What a task is made from.

    Attributes:
        config: the recipe.
        model: the model to train, its weights initialised.
        normalizer: uint8 frames to the model's input.
        open_store: opens a list of training clips; with `data.cache_gb` they are decoded now.
        parts: equal parts that each batch is cut into: processes times `optim.accumulate`.
    """

    config: TrainConfig
    model: SefarModel
    normalizer: FrameNormalizer
    open_store: Callable[[Path], FrameStore]
    parts: int


@dataclass(frozen=True)
class Task:
    """One run's work.

    Attributes:
        step: what is done with each batch; an `nn.Module` that satisfies `sefar_training.loop.Step`.
        sources: the clips of each batch.
        models: checkpoints to save, by name; `FINAL` first.
        classifies: whether the models predict classes. If so, they are evaluated on the lists `data.val` and
            `data.test`.
    """

    step: nn.Module
    sources: Sequence[Source]
    models: Mapping[str, SefarModel]
    classifies: bool


TaskFactory = Callable[[Setup], Task]
