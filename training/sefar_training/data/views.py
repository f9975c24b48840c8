"""Spatial views of a training clip. Parameters are drawn once per clip and apply to all of its frames."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class WeakView:
    """Random scale, random square crop, random horizontal flip.

    Attributes:
        size: side of the square in pixels.
        scale: smallest and largest short side in pixels before cropping, both included.
        flip: probability of a horizontal flip.
    """

    size: int
    scale: tuple[int, int]
    flip: float

    def __call__(self, frames_FHWC: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Crop the same square from every frame.

        Args:
            frames_FHWC: whole frames of one clip. Their short side should be at least the largest of `scale`; smaller
                frames are enlarged.
            rng: source of the view's parameters.

        Returns:
            uint8 (F,size,size,3).
        """
        _, height, width, _ = frames_FHWC.shape
        short = int(rng.integers(max(self.scale[0], self.size), max(self.scale[1], self.size) + 1))
        # Cropping before scaling gives the same view with less to scale.
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
    """The weak view, then colour jitter, blur and one erased box, the same for all frames of the clip.

    Time is perturbed elsewhere, on whole batches: `sefar_training.semisupervised.perturb`.

    Attributes:
        weak: the weak view.
        strength: in [0, 1]; 0 is the weak view alone. At 1, brightness, contrast and saturation change by up to 60 %
            and hue by up to 10 %, the blur's sigma is up to 1.5 pixels, and the box's sides are up to 40 % of the
            frame's.
    """

    weak: WeakView
    strength: float

    def __call__(self, frames_FHWC: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Apply the view to every frame; returns uint8 (F,size,size,3)."""
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
    """Rotate hue by `hue` of a full circle, then scale saturation, brightness, and contrast around the clip's mean.

    Lookup tables over uint8 take a tenth of the time of torchvision's functions, which took a quarter of a step.
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
