"""Encoded clips decode to what was drawn, at the same rate, and are the same bytes every time."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from sefar_serve.clip import Video
from sefar_training.synthgym import PRESETS, encode_clip, render_clip

RATES = (Fraction(25), Fraction(30000, 1001), Fraction(50))


@pytest.mark.parametrize("size", PRESETS["standard"].sizes, ids=str)
def test_every_frame_comes_back(tmp_path: Path, size: tuple[int, int]) -> None:
    clip = render_clip(8, 2, dataclasses.replace(PRESETS["standard"], sizes=(size,), crf=(20, 20)))
    path = encode_clip(clip, tmp_path / "clip.mp4")
    with Video(path) as video:
        assert video.frame_count == len(clip.frames)
        pixels = video.read(range(video.frame_count)).pixels
    assert pixels.shape == clip.frames.shape
    error = np.abs(pixels.astype(np.int16) - clip.frames).mean(axis=(1, 2, 3))
    assert error.max() < 12
    # Each frame is nearer to its own drawing than to the next one's: none is lost or doubled.
    moved = np.abs(pixels[:-1].astype(np.int16) - clip.frames[1:]).mean(axis=(1, 2, 3))
    assert (error[:-1] < moved).mean() > 0.9


@pytest.mark.parametrize("rate", RATES, ids=str)
def test_the_rate_is_kept(tmp_path: Path, rate: Fraction) -> None:
    clip = render_clip(0, 1, dataclasses.replace(PRESETS["easy"], rates=(rate,)))
    with Video(encode_clip(clip, tmp_path / "clip.mp4")) as video:
        times = video.read(range(video.frame_count)).times
    np.testing.assert_allclose(np.diff(times), float(1 / rate), atol=2e-3)


def test_nothing_is_left_but_the_video(tmp_path: Path) -> None:
    encode_clip(render_clip(0, 1, "easy"), tmp_path / "clip.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize("action", [8, 18, 30])
def test_the_same_frames_are_the_same_bytes(tmp_path: Path, action: int) -> None:
    clip = render_clip(action, 4, "easy")
    written = {encode_clip(clip, tmp_path / f"{n}.mp4").read_bytes() for n in range(12)}
    assert len(written) == 1
