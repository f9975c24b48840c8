"""Pretrained image networks: their weights, read from the known package or from a file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from sefar_serve.download_bar import download_bar

from ..convert.files import ConversionError, read_weights_file, state_dict_in
from ..model import IMAGE_NETWORKS, BackboneName, FrameVectors
from ..weights import WeightsError, find_weights, get_weights

CLASSIFIER = ("classifier.weight", "classifier.bias")


def load_network(name: BackboneName, sample_frames: Sequence[int], file: Path | None = None) -> FrameVectors:
    """Load a frozen image network.

    Args:
        name: a key of `IMAGE_NETWORKS`.
        sample_frames: frames per temporal element.
        file: its weights, under timm's names or in timm's order, or a folder with the known file in it; None for those
            of `sefar weights get`, which are downloaded if they are missing.

    Raises:
        WeightsError: the weights cannot be downloaded, are damaged, or do not fit.
    """
    known = find_weights(name)
    if file is None:
        with download_bar(known.what) as progress:
            file = get_weights(known, progress=progress)
    elif file.is_dir():
        file = file / known.file
    vectors = FrameVectors(sample_frames, IMAGE_NETWORKS[name])
    try:
        state = state_dict_in(read_weights_file(file), ["state_dict"], file)
    except ConversionError as error:
        raise WeightsError(str(error)) from error
    vectors.network.load_state_dict(_named(state, vectors.network.state_dict(), file))
    return vectors.eval()


def _named(state: Mapping[str, Tensor], ours: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    """The tensors under timm's names, without the classifier.

    Files of other projects have the same layers in the same order under other names.
    """
    tensors = list(state.items())
    if set(CLASSIFIER) <= state.keys():
        tensors = [(name, tensor) for name, tensor in tensors if name not in CLASSIFIER]
    named = dict(tensors) if dict(tensors).keys() == ours.keys() else None
    if named is None and len(tensors) in (len(ours), len(ours) + len(CLASSIFIER)):
        named = {name: tensor for name, (_, tensor) in zip(ours, tensors, strict=False)}
    if named is None or any(named[name].shape != ours[name].shape for name in ours):
        raise WeightsError(f"{file} does not hold the weights of this network; get them with: sefar weights get")
    return named


def network_sha256(vectors: FrameVectors) -> str:
    """A hash of the weights; features of others are not the same."""
    digest = hashlib.sha256()
    for name, tensor in vectors.network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
