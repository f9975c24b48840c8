"""What a run trains: a step, the clips it takes, and the models that come out.

`sefar_training.train.find_task` finds a task by the name that a recipe gives it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import Dataset

from .config import TrainConfig
from .data import EvaluationClips, EvaluationJoints, InputViews, Origin, Source
from .model import FrameNormalizer, PoseNormalizer, SefarModel


class Inputs(Protocol):
    """What the recipe's stream sees of its clips: frames or joints.

    Lists are files of the recipe. Training clips are map-style data sets keyed by (pass, index).
    """

    @property
    def origin(self) -> Origin | None:
        """What gives the joints; None for frames."""
        ...

    @property
    def normalizer(self) -> FrameNormalizer | PoseNormalizer:
        """Turns a batch of clips into the model's input."""
        ...

    @property
    def views(self) -> InputViews:
        """What a training step does to normalised inputs."""
        ...

    def labelled(self, list_file: Path) -> Dataset[Any]:
        """Open a list of labelled training clips.

        Raises:
            ListFileError, MissingClipsError, BrokenClipsError: the list or its clips cannot be read.
        """
        ...

    def labels(self, list_file: Path) -> NDArray[np.int64]:
        """The class of each clip of a list, int64 (N,).

        Raises:
            ListFileError: the list cannot be read.
        """
        ...

    def unlabelled(self, list_file: Path) -> Dataset[Any]:
        """Open a list of unlabelled training clips; raises as `labelled` does."""
        ...

    def evaluation(self, list_file: Path) -> EvaluationClips | EvaluationJoints:
        """Open a list for evaluation with the recipe's preprocessing.

        Raises:
            MissingClipsError: clips are missing.
        """
        ...


@dataclass(frozen=True)
class Setup:
    """What a task is made from.

    Attributes:
        config: the recipe.
        model: the model to train, its weights initialised.
        inputs: the recipe's clips, as the model sees them.
        parts: equal parts that each batch is cut into: processes times `optim.accumulate`.
    """

    config: TrainConfig
    model: SefarModel
    inputs: Inputs
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
