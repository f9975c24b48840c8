"""A conversion from start to end: detect what the source is, build the model, fill in the weights, save it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import timm
import torch
from pydantic import ValidationError

from ..checkpoint import CONFIG, CheckpointError, CheckpointInfo, read_info, save_checkpoint
from ..config import ModelConfig
from ..data import ClassTable
from ..model import VARIANTS, Architecture, VariantName, create_model
from .files import ConversionError, read_json
from .image_vit import read_pretrained_vit, read_vit_file, read_vit_folder
from .release import ReleaseSource, read_release
from .source import Source
from .timesformer import fetch_timesformer, read_timesformer

Format = Literal["sefar", "timm", "timesformer"]

SAMPLE_FRAMES = (2, 2, 4)
SEED = 0
"""Seed of a new head, so that the same source gives the same checkpoint."""


@dataclass(frozen=True)
class ConversionReport:
    """The result of a conversion.

    Attributes:
        folder: the checkpoint.
        source: what was converted.
        model: the model's description.
        classes: number of classes K.
        carried: tensors that were copied.
        derived: temporal tensors that the source does not have, copied from spatial ones or set to zero.
        new: tensors of a new, untrained head.
    """

    folder: Path
    source: str
    model: ModelConfig
    classes: int
    carried: int
    derived: int
    new: int

    def __str__(self) -> str:
        frames = ", ".join(map(str, self.model.sample_frames))
        parts = [f"{self.carried} tensors converted"]
        if self.derived:
            parts.append(f"{self.derived} temporal tensors derived")
        if self.new:
            parts.append(f"{self.new} tensors of a new, untrained head")
        return (
            f"{self.folder}: {self.classes} {'class' if self.classes == 1 else 'classes'}, "
            f"{len(self.model.sample_frames)} elements ({frames}), {self.model.size} pixels; "
            f"{', '.join(parts)}, from {self.source}"
        )


def convert(
    source: str | Path,
    out: Path,
    kind: Format | None = None,
    *,
    architecture: str | None = None,
    num_heads: int | None = None,
    labels: Path | None = None,
    sample_frames: tuple[int, ...] | None = None,
    size: int | None = None,
    name: str = "unnamed",
) -> ConversionReport:
    """Convert pretrained weights to a checkpoint folder.

    Args:
        source: a checkpoint file of the SeFAR authors; a timm model name, or a weights file of a timm ViT; a
            TimeSformer folder in the format of transformers, or its hub id.
        out: the checkpoint folder to write; an existing checkpoint is replaced.
        kind: what the source is; None detects it.
        architecture: timm's name for the ViT in a file.
        num_heads: number of attention heads, if the source does not say.
        labels: text file, line n names class n; None for ``class_0`` and so on.
        sample_frames: frames per temporal element, context last; None for the source's, else (2, 2, 4).
        size: side of the frames in pixels; None for the source's. Position embeddings are interpolated.
        name: name of the data set, for display.

    Raises:
        ConversionError: the source cannot be read or does not fit, or `out` exists and is not a checkpoint.
        ClassesError: the label file is malformed.
    """
    _check_replaceable(out)
    read = _read(str(source), kind, architecture, num_heads, sample_frames)
    if size is not None:
        read = read.resized(size)
    has_head = isinstance(read, ReleaseSource)
    names = _labels(labels, read, has_head)
    try:
        config = ModelConfig(
            **_sizes(read.architecture),
            sample_frames=read.sample_frames,
            size=read.size,
            resize=round(read.size * 256 / 224),
            mean=read.mean,
            std=read.std,
        )
    except ValidationError as error:
        wrong = "; ".join(e["msg"].removeprefix("Value error, ") for e in error.errors())
        raise ConversionError(f"{read.origin}: {wrong}") from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = create_model(
            config.variant, len(names), config.sample_frames, size=config.size, architecture=config.architecture
        )
    ours = model.state_dict()
    carried = read.carry(ours)
    derived = read.derived(carried)
    model.load_state_dict({**ours, **carried, **derived})
    save_checkpoint(out, model.eval(), CheckpointInfo(model=config, dataset=name, labels=names))
    return ConversionReport(
        folder=out,
        source=read.origin,
        model=config,
        classes=len(names),
        carried=len(carried),
        derived=len(derived),
        new=len(ours) - len(carried) - len(derived),
    )


def detect(source: str, architecture: str | None = None) -> Format:
    """Detect what a source is.

    Raises:
        ConversionError: it is none of the known formats.
    """
    path = Path(source)
    if path.is_dir():
        if not (path / CONFIG).is_file():
            raise ConversionError(f"{source} has no {CONFIG}, so its format cannot be detected")
        config = read_json(path / CONFIG)
        if config.get("model_type") == "timesformer":
            return "timesformer"
        if "architecture" in config:
            return "timm"
        if "sample_frames" in (config.get("model") or {}):
            raise ConversionError(f"{source} is already a checkpoint of this project")
        raise ConversionError(f"{source} is neither a TimeSformer in the format of transformers nor a timm model")
    if path.exists():
        return "sefar" if architecture is None else "timm"
    if timm.is_model(source):
        return "timm"
    if source.count("/") == 1 and not path.suffix:
        return "timesformer"
    raise ConversionError(
        f"{source} is not a file or folder, not a timm model name, and not a Hugging Face hub id (owner/name)"
    )


def _read(
    source: str,
    kind: Format | None,
    architecture: str | None,
    num_heads: int | None,
    sample_frames: tuple[int, ...] | None,
) -> Source:
    if kind is None:
        kind = detect(source, architecture)
    if kind not in get_args(Format):
        raise ConversionError(f"no format {kind!r}; choose one of {', '.join(get_args(Format))}")
    if kind == "timm" and num_heads is not None:
        raise ConversionError("timm knows the number of heads of its ViTs; remove --num-heads")
    if kind != "timm" and architecture is not None:
        raise ConversionError(f"--architecture is for timm ViTs, but {source} has the format {kind}")
    path, frames = Path(source), sample_frames or SAMPLE_FRAMES
    if kind == "sefar":
        read = read_release(path, num_heads)
        if sample_frames not in (None, read.sample_frames):
            raise ConversionError(f"{source} has sample_frames {read.sample_frames}, not {sample_frames}")
        return read
    if kind == "timesformer":
        return read_timesformer(path if path.exists() else fetch_timesformer(source), frames, num_heads)
    if path.is_dir():
        return read_vit_folder(path, frames)
    if path.exists():
        if architecture is None:
            raise ConversionError(f"{source} does not say which ViT it is; pass timm's name with --architecture")
        return read_vit_file(path, architecture, frames)
    return read_pretrained_vit(source, frames)


def _check_replaceable(out: Path) -> None:
    """Refuse to replace anything but a checkpoint."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        try:
            read_info(out)
        except CheckpointError as error:
            raise ConversionError(f"{out} exists and is not a checkpoint; choose another folder") from error


def _labels(file: Path | None, source: Source, has_head: bool) -> tuple[str, ...]:
    if file is None:
        return tuple(f"class_{k}" for k in range(source.classes or 1))
    labels = ClassTable.read(file).labels
    if has_head and len(labels) != source.classes:
        raise ConversionError(f"{file} has {len(labels)} class names, but {source.origin} has {source.classes} classes")
    return labels


def _sizes(architecture: Architecture) -> dict[str, VariantName | Architecture]:
    """The variant with these sizes, or the sizes themselves if no variant has them."""
    for name, variant in VARIANTS.items():
        if Architecture(**variant.model_dump(exclude={"size"})) == architecture:
            return {"variant": name}
    return {"architecture": architecture}
