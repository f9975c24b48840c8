"""One conversion from end to end: find out what a source is, build our model, fill it, save it."""

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
"""Of a new head, so that the same source gives the same checkpoint."""


@dataclass(frozen=True)
class ConversionReport:
    """What a conversion produced.

    Attributes:
        folder: the checkpoint.
        source: what was converted.
        model: the model's description.
        classes: K.
        carried: tensors carried over.
        derived: tensors made from those, or set to zero: the temporal ones that the source does not have.
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
            parts.append(f"{self.derived} temporal ones derived")
        if self.new:
            parts.append(f"{self.new} of a new, untrained head")
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
    """Turn weights of others into a checkpoint folder of ours.

    Args:
        source: a checkpoint file of the SeFAR authors; a name of timm, or a file of one of its ViTs; a TimeSformer
            folder of transformers, or its id on the hub.
        out: the checkpoint folder to write; an earlier checkpoint there is replaced.
        kind: what the source is; None to find out.
        architecture: timm's name of the ViT that a file holds.
        num_heads: attention heads, where the source does not tell.
        labels: text file, line n names class n; None for ``class_0`` and so on.
        sample_frames: frames per temporal element, context last; None for the source's own, else (2, 2, 4).
        size: side of the frames in pixels; None for the source's own. Position embeddings are interpolated.
        name: what the data set is called, for people to read.

    Raises:
        ConversionError: if the source cannot be read or does not fit, or `out` is a folder of something else.
        ClassesError: if the label file is malformed.
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
    """Find out what a source is.

    Raises:
        ConversionError: if it is nothing we know.
    """
    path = Path(source)
    if path.is_dir():
        if not (path / CONFIG).is_file():
            raise ConversionError(f"{source} holds no {CONFIG} that would tell what it is")
        config = read_json(path / CONFIG)
        if config.get("model_type") == "timesformer":
            return "timesformer"
        if "architecture" in config:
            return "timm"
        if "sample_frames" in (config.get("model") or {}):
            raise ConversionError(f"{source} is a checkpoint of this project already")
        raise ConversionError(f"{source} is neither a TimeSformer of transformers nor a model of timm")
    if path.exists():
        return "sefar" if architecture is None else "timm"
    if timm.is_model(source):
        return "timm"
    if source.count("/") == 1 and not path.suffix:
        return "timesformer"
    raise ConversionError(
        f"{source} is no file or folder, no name timm knows and no id on the Hugging Face hub (owner/name)"
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
        raise ConversionError(f"no format {kind!r}; there are {', '.join(get_args(Format))}")
    if kind == "timm" and num_heads is not None:
        raise ConversionError("timm tells the number of heads of its ViTs; leave --num-heads out")
    if kind != "timm" and architecture is not None:
        raise ConversionError(f"--architecture names a ViT of timm, but {source} is taken for {kind}")
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
            raise ConversionError(f"{source} does not say which ViT it holds: pass timm's name of it (--architecture)")
        return read_vit_file(path, architecture, frames)
    return read_pretrained_vit(source, frames)


def _check_replaceable(out: Path) -> None:
    """Only a checkpoint may be replaced: any other folder would be lost."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        try:
            read_info(out)
        except CheckpointError as error:
            raise ConversionError(f"{out} is there already and is no checkpoint; choose another folder") from error


def _labels(file: Path | None, source: Source, has_head: bool) -> tuple[str, ...]:
    if file is None:
        return tuple(f"class_{k}" for k in range(source.classes or 1))
    labels = ClassTable.read(file).labels
    if has_head and len(labels) != source.classes:
        raise ConversionError(f"{file} names {len(labels)} classes, but {source.origin} has {source.classes}")
    return labels


def _sizes(architecture: Architecture) -> dict[str, VariantName | Architecture]:
    """The variant of these sizes, or the sizes themselves where they have no name."""
    for name, variant in VARIANTS.items():
        if Architecture(**variant.model_dump(exclude={"size"})) == architecture:
            return {"variant": name}
    return {"architecture": architecture}
