from __future__ import annotations

import numpy as np
import pytest

from sefar_training.data.views import StrongView, WeakView


def gradient(frames: int = 4, height: int = 80, width: int = 100) -> np.ndarray:
    """Frames whose red is the column and green the row, so that a view shows where it was cut."""
    y, x = np.mgrid[:height, :width].astype(np.uint8)
    return np.broadcast_to(np.stack([x, y, x * 0], axis=-1), (frames, height, width, 3)).copy()


def test_all_frames_of_a_clip_share_scale_crop_and_flip() -> None:
    view = WeakView(size=64, scale=(64, 80), flip=0.5)
    for seed in range(20):
        out = view(gradient(), np.random.default_rng(seed))
        assert out.shape == (4, 64, 64, 3)
        assert out.dtype == np.uint8
        assert (out == out[0]).all()


def test_views_differ_in_place_scale_and_mirror() -> None:
    view = WeakView(size=64, scale=(64, 80), flip=0.5)
    outs = [view(gradient(1), np.random.default_rng(seed))[0].astype(int) for seed in range(40)]
    mirrored = {bool(out[0, 0, 0] > out[0, -1, 0]) for out in outs}
    widths = {abs(out[0, 0, 0] - out[0, -1, 0]) for out in outs}
    corners = {(min(out[0, 0, 0], out[0, -1, 0]), out[0, 0, 1]) for out in outs}
    assert mirrored == {True, False}
    assert len(widths) > 5
    assert len(corners) > 10


def test_same_seed_gives_the_same_view() -> None:
    view = WeakView(size=64, scale=(64, 80), flip=0.5)
    a, b = (view(gradient(), np.random.default_rng(3)) for _ in range(2))
    assert (a == b).all()


@pytest.mark.parametrize("shape", [(64, 64), (48, 90), (200, 65)])
def test_small_and_odd_pictures_fill_the_square(shape: tuple[int, int]) -> None:
    view = WeakView(size=64, scale=(64, 64), flip=0)
    assert view(gradient(2, *shape), np.random.default_rng(0)).shape == (2, 64, 64, 3)


def test_largest_scale_keeps_its_share_of_the_picture() -> None:
    out = WeakView(size=64, scale=(80, 80), flip=0)(gradient(1), np.random.default_rng(0))
    assert abs((out[0, -1, 0, 1].astype(int) - out[0, 0, 0, 1]) - 63) <= 1


def test_strong_view_changes_all_frames_of_a_clip_alike() -> None:
    view = StrongView(WeakView(size=64, scale=(64, 80), flip=0.5), strength=1.0)
    for seed in range(20):
        out = view(gradient(), np.random.default_rng(seed))
        assert out.shape == (4, 64, 64, 3) and out.dtype == np.uint8
        assert (out == out[0]).all()


def test_strong_view_with_zero_strength_is_the_weak_view() -> None:
    weak = WeakView(size=64, scale=(64, 80), flip=0.5)
    same = StrongView(weak, 0.0)(gradient(), np.random.default_rng(5))
    assert (same == weak(gradient(), np.random.default_rng(5))).all()


def test_strong_view_erases_blurs_and_recolours_more_with_strength() -> None:
    weak = WeakView(size=64, scale=(64, 64), flip=0)
    plain = weak(gradient(1, 64, 64), np.random.default_rng(0)).astype(int)

    def change(strength: float) -> float:
        outs = [StrongView(weak, strength)(gradient(1, 64, 64), np.random.default_rng(seed)) for seed in range(30)]
        return float(np.mean([np.abs(out - plain).mean() for out in outs]))

    assert 0 < change(0.2) < change(0.6) < change(1.0)
