"""Spatial views of a training clip: whatever is drawn is drawn once and holds for all of its frames."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class WeakView:
    """Random scale of the short side, random square, random mirror.

    Attributes:
        size: side of the square in pixels.
        scale: lowest and highest short side in pixels before cutting, both included.
        flip: probability of mirroring left to right.
    """

    size: int
    scale: tuple[int, int]
    flip: float

    def __call__(self, frames_FHWC: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Cut the same square from every frame.

        Args:
            frames_FHWC: whole pictures of one clip, their short side at least about `scale`'s highest
                (a smaller picture is enlarged).
            rng: source of the view's parameters.

        Returns:
            uint8 (F,size,size,3).
        """
        _, height, width, _ = frames_FHWC.shape
        short = int(rng.integers(max(self.scale[0], self.size), max(self.scale[1], self.size) + 1))
        # Cutting first and scaling after is the same view with less to scale.
        side = min(height, width) * self.size / short
        top, left = rng.uniform(0, height - side), rng.uniform(0, width - side)
        mirror = rng.random() < self.flip
        y0, x0, whole = round(top), round(left), max(1, round(side))
        square = frames_FHWC[:, y0 : y0 + whole, x0 : x0 + whole]
        if mirror:
            square = square[:, :, ::-1]
        out = np.empty((len(square), self.size, self.size, 3), np.uint8)
        interpolation = cv2.INTER_AREA if whole >= self.size else cv2.INTER_LINEAR
        for frame, scaled in zip(square, out, strict=True):
            cv2.resize(np.ascontiguousarray(frame), (self.size, self.size), dst=scaled, interpolation=interpolation)
        return out


@dataclass(frozen=True)
class StrongView:
    """The weak view, then one change of colours, one blur and one erased box for all frames of the clip.

    Time is perturbed elsewhere (`sefar_training.semisupervised.perturb`), on whole batches.

    Attributes:
        weak: the spatial view before.
        strength: on [0, 1]; 0 is the weak view alone. Brightness, contrast and saturation change by up to 60 % of it,
            hue by up to 10 %; the blur's sigma is up to 1.5 pixels and the box's sides up to 40 % of the picture's.
    """

    weak: WeakView
    strength: float

    def __call__(self, frames_FHWC: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Cut and change every frame alike; as `WeakView`, uint8 (F,size,size,3)."""
        out = self.weak(frames_FHWC, rng)
        if not self.strength:
            return out
        brightness, contrast, saturation = 1 + 0.6 * self.strength * rng.uniform(-1, 1, 3)
        hue, sigma = 0.1 * self.strength * rng.uniform(-1, 1), 1.5 * self.strength * rng.uniform()
        sides = np.maximum(1, (0.4 * self.strength * self.weak.size * rng.uniform(size=2)).astype(int))
        top, left = (int(rng.integers(0, self.weak.size - side + 1)) for side in sides)
        out = _recolour(out, brightness, contrast, saturation, hue)
        if sigma > 0.1:
            for frame in out:
                cv2.GaussianBlur(frame, (5, 5), sigma, dst=frame)
        out[:, top : top + sides[0], left : left + sides[1]] = 128
        return out


def _recolour(
    frames_FHWC: NDArray[np.uint8], brightness: float, contrast: float, saturation: float, hue: float
) -> NDArray[np.uint8]:
    """Turn hue by `hue` of a full circle, then scale saturation, brightness, and contrast about the clip's mean.

    By tables over uint8: a tenth of the time that torchvision's functions take, which was a quarter of a whole step.
    """
    levels = np.arange(256)
    hsv_tables = np.stack([(levels + round(256 * hue)) % 256, _bytes(saturation * levels), levels], axis=-1)
    tall = frames_FHWC.reshape(-1, *frames_FHWC.shape[2:])
    hsv = cv2.cvtColor(tall, cv2.COLOR_RGB2HSV_FULL)
    tall = cv2.cvtColor(cv2.LUT(hsv, hsv_tables[None].astype(np.uint8)), cv2.COLOR_HSV2RGB_FULL)
    mean = brightness * tall.mean()
    tall = cv2.LUT(tall, _bytes(mean + contrast * (brightness * levels - mean)))
    return tall.reshape(frames_FHWC.shape)


def _bytes(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
