"""The estimator that runs MediaPipe's models with LiteRT, on the CPU."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sefar_serve.download_bar import download_bar
from sefar_serve.optional import needs_extra
from sefar_serve.pose import blazepose
from sefar_serve.pose.blazepose import DETECTOR_SIDE, LANDMARK_SIDE, by_size, read_detections, read_landmarks
from sefar_serve.pose.estimator import Detection, Landmarks
from sefar_serve.pose.models import DETECTOR, ESTIMATOR_SHA256, LANDMARK, find_models
from sefar_serve.pose.quiet import without_lines
from sefar_serve.pose.region import Picture, Region

with needs_extra("pose"):
    from ai_edge_litert.interpreter import Interpreter

INFO = b"INFO: "
"""Begins what LiteRT tells on stderr when it first prepares a model. It has no setting against it."""

Run = Callable[[NDArray[np.float32]], dict[int, NDArray[np.float32]]]
"""A model: its input (h,w,3) to its outputs by their size."""


class LiteRTEstimator:
    """MediaPipe's pose detector and its landmark model `full`. See `sefar_serve.pose.estimator.Estimator`.

    Every thread gets interpreters of its own, one thread each: clips run in parallel, not frames.

    Args:
        home: folder that holds the models; None: that in SEFAR_POSE_HOME, or else in the user's cache, where they are
            downloaded if missing, with a bar on a terminal.

    Raises:
        PoseSetupError: the models are not in the named folder, cannot be downloaded, or are damaged.
    """

    name = "mediapipe-pose-full"
    sha256 = ESTIMATOR_SHA256

    def __init__(self, home: Path | None = None) -> None:
        with download_bar("pose models") as progress:
            self._folder = find_models(home, progress)
        self._local = threading.local()

    def detect(self, picture: Picture, within: Region) -> list[Detection]:
        """Find persons in a part of a picture."""
        pixels = picture.crop(within, DETECTOR_SIDE).astype(np.float32) / np.float32(127.5) - np.float32(1)
        outputs = self._models()[0](pixels)
        anchors = len(blazepose.ANCHORS)
        return read_detections(outputs[anchors * 12][0], outputs[anchors][0], within)

    def landmarks(self, picture: Picture, region: Region) -> Landmarks:
        """Find the joints of the person in a region."""
        pixels = picture.crop(region, LANDMARK_SIDE).astype(np.float32) / np.float32(255)
        outputs = self._models()[1](pixels)
        points = blazepose.POINTS
        return read_landmarks(outputs[points * 5][0], outputs[1][0], outputs[points * 3][0], region)

    def _models(self) -> tuple[Run, Run]:
        if not hasattr(self._local, "models"):
            self._local.models = tuple(_load(self._folder / file.name) for file in (DETECTOR, LANDMARK))
        models: tuple[Run, Run] = self._local.models
        return models


def _load(file: Path) -> Run:
    with without_lines(INFO):
        interpreter: Any = Interpreter(str(file), num_threads=1)
        interpreter.allocate_tensors()
    input_number = interpreter.get_input_details()[0]["index"]
    output_numbers = [detail["index"] for detail in interpreter.get_output_details()]

    def run(pixels: NDArray[np.float32]) -> dict[int, NDArray[np.float32]]:
        interpreter.set_tensor(input_number, pixels[None])
        interpreter.invoke()
        return by_size([interpreter.get_tensor(number) for number in output_numbers])

    return run
