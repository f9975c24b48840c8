"""A trained model on disk: a folder with `model.safetensors` and `config.json`, written atomically."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sefar_serve.atomic import atomic_folder
from sefar_serve.errors import SefarError

from .config import ModelConfig, TrainConfig
from .data import ClassTable, Origin
from .model import SefarModel, create_linear_model, create_model
from .typical import Typical, save_typical

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


class CheckpointError(SefarError, ValueError):
    """A folder is not a checkpoint, or does not fit the model that it is loaded into."""


class CheckpointInfo(BaseModel):
    """Everything that is needed to rebuild, serve and evaluate the model.

    Attributes:
        model: variant and preprocessing.
        dataset: name of the training data, for display.
        labels: class names.
        attributes: attributes of each class; may be empty.
        opposites: opposite of each class; may be empty.
        recipe: the training recipe as it ran, or None.
        metrics: results, e.g. the evaluation report.
        estimator: name of the pose estimator that found the joints, or ``true:`` and a name if they are known; empty if
            the model sees frames.
        estimator_sha256: of the estimator's weights, or of a description of known joints.
        temperature: what the classifier was divided by after training, see `sefar_training.calibration`; None if it is
            as trained.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: ModelConfig
    dataset: str
    labels: tuple[str, ...]
    attributes: tuple[dict[str, str | float], ...] = ()
    opposites: tuple[int | None, ...] = ()
    recipe: dict[str, Any] | None = None
    metrics: dict[str, Any] = {}
    estimator: str = ""
    estimator_sha256: str = ""
    temperature: float | None = None

    @property
    def classes(self) -> ClassTable:
        """The class table."""
        return ClassTable(self.labels, self.attributes, self.opposites)


def describe(
    config: TrainConfig,
    classes: ClassTable,
    metrics: dict[str, Any],
    origin: Origin | None,
    temperature: float | None = None,
) -> CheckpointInfo:
    """Describe a trained model.

    Args:
        config: its recipe.
        classes: its classes.
        metrics: results.
        origin: what gave its joints; None if it sees frames.
        temperature: what its classifier was divided by; None if it is as trained.
    """
    return CheckpointInfo(
        model=config.model,
        dataset=config.data.dataset,
        labels=classes.labels,
        attributes=classes.attributes,
        opposites=classes.opposites,
        recipe=config.model_dump(mode="json"),
        metrics=metrics,
        estimator=origin.estimator if origin else "",
        estimator_sha256=origin.sha256 if origin else "",
        temperature=temperature,
    )


def build(config: ModelConfig, classes: int, drop_path: float = 0.0) -> SefarModel:
    """Build a model of K classes with random weights.

    Args:
        config: its description.
        classes: number of classes K.
        drop_path: rate of stochastic depth in a backbone that is trained.
    """
    if config.frozen:
        frames = config.sample_frames
        return create_linear_model(config.backbone, classes, frames, persons=config.persons, dropout=config.dropout)
    return create_model(
        config.variant,
        classes,
        config.sample_frames,
        layout=config.layout,
        size=config.size,
        persons=config.persons,
        dropout=config.dropout,
        drop_path=drop_path,
        architecture=config.architecture,
    )


def save_checkpoint(folder: Path, model: SefarModel, info: CheckpointInfo, typical: Typical | None = None) -> Path:
    """Write a checkpoint atomically; an existing one is replaced.

    Args:
        folder: the checkpoint folder.
        model: the model.
        info: its description.
        typical: what is typical of its training clips; without it, the exported file does not measure familiarity.

    Returns:
        The folder.
    """
    with atomic_folder(folder) as new:
        save_file({k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}, new / WEIGHTS)
        (new / CONFIG).write_text(info.model_dump_json(indent=2) + "\n", encoding="utf-8")
        if typical is not None:
            save_typical(new, typical)
    return folder


def read_info(folder: Path) -> CheckpointInfo:
    """Read a checkpoint's description without its weights.

    Raises:
        CheckpointError: the folder is not a checkpoint.
    """
    try:
        return CheckpointInfo.model_validate_json((folder / CONFIG).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CheckpointError(
            f"{folder} is not a checkpoint: it has no {CONFIG}. Give the checkpoint folder inside a run, "
            "e.g. runs/synthgym_sefar/final"
        ) from error
    except ValidationError as error:
        raise CheckpointError(f"{folder / CONFIG} does not describe a checkpoint: {error}") from error


def _read_weights(folder: Path) -> dict[str, Any]:
    try:
        return load_file(folder / WEIGHTS)
    except (FileNotFoundError, SafetensorError) as error:
        raise CheckpointError(f"{folder / WEIGHTS} is missing or damaged: {error}") from error


def load_checkpoint(folder: Path) -> tuple[SefarModel, CheckpointInfo]:
    """Load a model in eval mode on the CPU.

    Raises:
        CheckpointError: the folder is not a checkpoint, or its weights do not fit its description.
    """
    info = read_info(folder)
    model = build(info.model, len(info.labels))
    try:
        model.load_state_dict(_read_weights(folder))
    except RuntimeError as error:
        raise CheckpointError(f"the weights in {folder} do not fit its {CONFIG}: {error}") from error
    return model.eval(), info


def init_backbone(model: SefarModel, folder: Path) -> None:
    """Load the backbone of a checkpoint, e.g. of the pretext, into a model. The head keeps its weights.

    Raises:
        CheckpointError: the backbones differ in architecture, size or elements.
    """
    prefix = "backbone."
    weights = {k.removeprefix(prefix): v for k, v in _read_weights(folder).items() if k.startswith(prefix)}
    try:
        model.backbone.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(
            f"the backbone in {folder} does not fit: init needs the same variant, size and sample_frames ({error})"
        ) from error
