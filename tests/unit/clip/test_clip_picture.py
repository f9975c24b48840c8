"""From decoded frames to upright RGB pictures of the requested size."""

from __future__ import annotations

import numpy as np
import pytest
from numbered_clips import decode_in_turn, encode, numbers_of, picture

from sefar_serve.clip import ClipLimitError, ClipLimits, Video, central_square


@pytest.mark.parametrize(("rotation", "size"), [(0, (96, 72)), (90, (72, 96)), (-90, (72, 96)), (180, (96, 72))])
def test_pictures_are_turned_upright(rotation: int, size: tuple[int, int]) -> None:
    data = encode(6, rotation=rotation, options={"crf": "8"})
    with Video(data) as before, Video(data) as after:
        assert (before.width, before.height) == size  # known before anything is read
        pixels = after.read(range(6)).pixels
        assert (after.width, after.height) == size
    assert pixels.shape == (6, size[1], size[0], 3)
    assert numbers_of(pixels) == list(range(6))
    assert np.abs(pixels[5].astype(int) - picture(5, *size)).mean() < 6


@pytest.mark.parametrize("rotation", [0, 90])
def test_the_short_side_is_scaled_and_the_square_cut_from_the_middle(rotation: int) -> None:
    with Video(encode(6, rotation=rotation, width=160, height=90)) as video:
        whole = video.read([4, 1], short_side=45)
        assert whole.pixels.shape[1:3] == ((45, 80) if rotation == 0 else (80, 45))
        square = video.read([4, 1], short_side=45, square=40)
        assert (square.pixels == central_square(whole.pixels, 40)).all()


def test_scaling_is_one_pass_of_the_same_scaler() -> None:
    data = encode(6, width=160, height=90)
    with Video(data) as video:
        assert (video.read(range(6), short_side=45).pixels == decode_in_turn(data, (80, 45))).all()


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "size"),
    [
        ("libx264", "yuv444p", (97, 71)),
        ("libvpx-vp9", "yuv420p", (97, 71)),
        ("libx264", "yuv420p10le", (96, 72)),
        ("libx265", "yuv420p10le", (96, 72)),
        ("libx264", "yuvj420p", (96, 72)),
    ],
)
def test_odd_sizes_ten_bits_and_full_range(codec: str, pix_fmt: str, size: tuple[int, int]) -> None:
    width, height = size
    options = {"libx265": {"x265-params": "log-level=none:crf=5"}, "libvpx-vp9": {"deadline": "realtime", "crf": "5"}}
    container = "webm" if codec == "libvpx-vp9" else "mp4"
    data = encode(5, codec, container, pix_fmt=pix_fmt, width=width, height=height, options=options.get(codec))
    with Video(data) as video:
        pixels = video.read(range(5)).pixels
    assert pixels.shape == (5, height, width, 3)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels[3].astype(int) - picture(3, width, height)).mean() < 8


def test_a_picture_does_not_depend_on_what_else_is_read() -> None:
    with Video(encode(30)) as video:
        together = video.read(range(30), short_side=64, square=56).pixels
        assert together.flags.c_contiguous
        assert (video.read([17], short_side=64, square=56).pixels[0] == together[17]).all()


def test_central_square() -> None:
    pixels = np.arange(2 * 5 * 8 * 3, dtype=np.uint8).reshape(2, 5, 8, 3)
    assert (central_square(pixels, 4) == pixels[:, 0:4, 2:6]).all()
    assert (central_square(pixels[0], 5) == pixels[0, :, 1:6]).all()


@pytest.mark.parametrize("size", [0, 6, -1])
def test_a_square_that_does_not_fit(size: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        central_square(np.zeros((1, 5, 8, 3), np.uint8), size)


def test_scaling_an_elongated_picture_is_limited() -> None:
    data = encode(2, width=1024, height=16)
    with Video(data, limits=ClipLimits(max_pixels=1_000_000)) as video:
        assert video.read([0]).pixels.shape == (1, 16, 1024, 3)
        with pytest.raises(ClipLimitError, match="would be scaled to 14336x224, more than the limit of 1000000 pixels"):
            video.read([0], short_side=224)
