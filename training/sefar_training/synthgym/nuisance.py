"""What varies between clips of the same class, and by how much: the difficulty of the presets in numbers.

Everything drawn here is constant over a clip or symmetric in time, so that no class can be recognised by the direction
of a nuisance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType

import numpy as np


@dataclass(frozen=True)
class Preset:
    """Ranges of the nuisances, and the size of the data set.

    Attributes:
        sizes: (width, height) in pixels, even numbers; each clip has one of them.
        rates: frames per second; each clip has one of them.
        frames: smallest and largest number of frames of a clip.
        padding: largest share of the clip before the action, and after it.
        azimuth: largest rotation of the camera from the side view, in degrees.
        elevation: largest tilt of the camera, in degrees.
        zoom: smallest and largest height of the gymnast, as a share of the frame's height.
        drift: largest movement of the camera over the clip, as a share of the frame.
        shake: largest jitter of the camera, as a share of the frame.
        amplitude: largest relative change of heights and flexions.
        body: largest relative change of limb thickness.
        contrast: smallest and largest difference in lightness between figure and background, 0 to 255.
        texture: largest strength of the background texture, 0 to 255.
        shapes: largest number of large shapes in the background.
        light: largest relative change of brightness over a clip, and of tint.
        crf: smallest and largest x264 constant rate factor.
        clips: clips per class for each split.
        routines: number of routine videos.
    """

    sizes: tuple[tuple[int, int], ...]
    rates: tuple[Fraction, ...]
    frames: tuple[int, int]
    padding: float
    azimuth: float
    elevation: float
    zoom: tuple[float, float]
    drift: float
    shake: float
    amplitude: float
    body: float
    contrast: tuple[float, float]
    texture: float
    shapes: int
    light: float
    crf: tuple[int, int]
    clips: Mapping[str, int] = field(default_factory=dict)
    routines: int = 4


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "easy": Preset(
            sizes=((96, 96),),
            rates=(Fraction(25),),
            frames=(20, 40),
            padding=0.04,
            azimuth=12,
            elevation=4,
            zoom=(0.44, 0.50),
            drift=0.0,
            shake=0.0,
            amplitude=0.04,
            body=0.05,
            contrast=(150, 180),
            texture=0,
            shapes=0,
            light=0.0,
            crf=(18, 22),
            clips=MappingProxyType({"train": 20, "val": 4, "test": 6}),
            routines=2,
        ),
        "standard": Preset(
            sizes=((96, 96), (128, 96), (128, 128), (160, 120), (112, 144)),
            rates=(Fraction(25), Fraction(30000, 1001), Fraction(30), Fraction(50)),
            frames=(20, 60),
            padding=0.10,
            azimuth=28,
            elevation=10,
            zoom=(0.42, 0.52),
            drift=0.10,
            shake=0.012,
            amplitude=0.12,
            body=0.15,
            contrast=(85, 150),
            texture=14,
            shapes=3,
            light=0.15,
            crf=(20, 28),
            clips=MappingProxyType({"train": 150, "val": 15, "test": 40}),
            routines=12,
        ),
    }
)


def find_preset(which: str | Preset) -> Preset:
    """Look up a preset by name; a preset is returned as is.

    Raises:
        ValueError: there is no such preset.
    """
    if isinstance(which, Preset):
        return which
    if which not in PRESETS:
        raise ValueError(f"SynthGym has no preset {which!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[which]


@dataclass(frozen=True)
class Look:
    """Camera, colours and light of one clip. Colours are RGB from 0 to 255, angles are in radians."""

    size: tuple[int, int]
    rate: Fraction
    crf: int
    mirror: bool
    azimuth: float
    elevation: float
    zoom: float
    drift: tuple[float, float]
    shake: tuple[tuple[float, float, float], ...]  # amplitude, cycles per clip, phase; alternating x and y
    thickness: float
    skin: tuple[float, float, float]
    suit: tuple[float, float, float]
    hair: tuple[float, float, float]
    wall: tuple[float, float, float]
    floor: tuple[float, float, float]
    texture: float
    shapes: int
    gain: float
    gain_slope: float
    tint: tuple[float, float, float]
    seed: int  # seed of the background's texture and shapes


def draw_look(rng: np.random.Generator, preset: Preset) -> Look:
    """Draw a clip's camera, colours and light."""

    def vary(limit: float) -> float:
        return float(rng.uniform(-limit, limit))

    # The wall is muted. The figure is lighter or darker than the wall, whichever leaves more room.
    wall_light = float(rng.uniform(60, 195))
    contrast = float(rng.uniform(*preset.contrast))
    lighter = wall_light < 128
    figure_light = np.clip(wall_light + (contrast if lighter else -contrast), 25, 240)
    hue = rng.normal(0, 1, 3)
    hue -= hue.mean()
    wall = np.clip(wall_light + 14 * hue, 0, 255)
    skin = np.clip(figure_light + np.array([22.0, 0.0, -22.0]) + rng.normal(0, 6, 3), 0, 255)
    suit_hue = rng.normal(0, 1, 3)
    suit_hue -= suit_hue.mean()
    suit = np.clip(figure_light + 60 * suit_hue / max(float(np.abs(suit_hue).max()), 1e-6), 0, 255)
    hair = np.full(3, 30.0 if wall_light > 100 else 225.0) + rng.normal(0, 8, 3)
    return Look(
        size=preset.sizes[int(rng.integers(len(preset.sizes)))],
        rate=preset.rates[int(rng.integers(len(preset.rates)))],
        crf=int(rng.integers(preset.crf[0], preset.crf[1] + 1)),
        mirror=bool(rng.integers(2)),
        azimuth=np.radians(vary(preset.azimuth)),
        elevation=np.radians(vary(preset.elevation)),
        zoom=float(rng.uniform(*preset.zoom)),
        drift=(vary(preset.drift), vary(preset.drift / 2)),
        shake=tuple(
            (float(rng.uniform(0, preset.shake)), float(rng.uniform(1, 5)), float(rng.uniform(0, 2 * np.pi)))
            for _ in range(4)
        ),
        thickness=1 + vary(preset.body),
        skin=_rgb(skin),
        suit=_rgb(suit),
        hair=_rgb(np.clip(hair, 0, 255)),
        wall=_rgb(wall),
        floor=_rgb(np.clip(wall + rng.choice([-1.0, 1.0]) * rng.uniform(8, 22), 0, 255)),
        texture=float(rng.uniform(0, preset.texture)),
        shapes=int(rng.integers(0, preset.shapes + 1)),
        gain=1 + vary(preset.light),
        gain_slope=vary(preset.light),
        tint=_rgb(1 + rng.uniform(-1, 1, 3) * preset.light * 0.4),
        seed=int(rng.integers(2**31)),
    )


def _rgb(values: np.ndarray) -> tuple[float, float, float]:
    red, green, blue = (float(v) for v in values)
    return red, green, blue
