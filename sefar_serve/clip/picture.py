"""From a decoded frame to upright RGB pixels: colour, square pixels, size, orientation, central square."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from av.sidedata.sidedata import SideDataContainer, Type
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from sefar_serve.clip.errors import ClipLimitError


def central_square(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Cut the square in the middle.

    Args:
        pixels: (..., h, w, 3), e.g. (N,h,w,3).
        size: side in pixels.

    Returns:
        A view (..., size, size, 3).

    Raises:
        ValueError: if the square does not fit.
    """
    height, width = pixels.shape[-3:-1]
    if not 1 <= size <= min(height, width):
        raise ValueError(f"a square of {size}x{size} pixels does not fit in pictures of {width}x{height}")
    top, left = (height - size) // 2, (width - size) // 2
    return pixels[..., top : top + size, left : left + size, :]


@dataclass(frozen=True)
class Orientation:
    """How a stored picture is made upright: first transposed, then flipped.

    Attributes:
        transposed: rows become columns.
        upside_down: the order of the rows is reversed.
        mirrored: the order of the columns is reversed.
    """

    transposed: bool = False
    upside_down: bool = False
    mirrored: bool = False

    @classmethod
    def of(cls, frame: VideoFrame) -> Orientation:
        """What FFmpeg's autorotation does with the frame's display matrix; other angles go to the nearest quarter."""
        # `frame.side_data` would refer to the frame and the frame to it, which keeps both until a garbage collection.
        side = SideDataContainer(frame).get(Type.DISPLAYMATRIX)  # type: ignore[call-arg]
        if side is None:
            return cls()
        a, b, _, c, d, *_ = struct.unpack("=9i", bytes(side)[:36])
        across, down = math.hypot(a, c), math.hypot(b, d)
        if not across or not down:
            return cls()
        quarters = round(math.degrees(math.atan2(b / down, a / across)) / 90) % 4
        if quarters == 1:
            return cls(transposed=True, mirrored=c <= 0)
        if quarters == 2:
            return cls(upside_down=d < 0, mirrored=a < 0)
        if quarters == 3:
            return cls(transposed=True, upside_down=True, mirrored=c < 0)
        return cls(upside_down=d < 0)

    def upright(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A view of a picture (h,w,3)."""
        if self.transposed:
            picture = picture.transpose(1, 0, 2)
        return picture[:: -1 if self.upside_down else 1, :: -1 if self.mirrored else 1]


class PictureMaker:
    """Converts the frames of one stream to RGB pixels.

    Scaling and colour conversion are one pass of libswscale (bilinear), the same in training and serving:
    another library's scaler would give different pixels.

    Args:
        width: width of a frame as stored, pixels.
        height: height of a frame as stored, pixels.
        aspect: width over height of one pixel; None, if the file does not say, means square pixels.
        max_pixels: limit on the pixels of a scaled picture.
        name: name of the source in messages.
    """

    def __init__(self, width: int, height: int, aspect: Fraction | None, max_pixels: int, name: str) -> None:
        aspect = aspect if aspect is not None and aspect > 0 else Fraction(1)
        self._width = max(round(width * aspect), 1)
        self._height = height
        self._max_pixels = max_pixels
        self._name = name
        self._reformatter = VideoReformatter()
        self._turned: bool | None = None
        self._oriented: tuple[int, Orientation] | None = None

    @property
    def oriented(self) -> bool:
        """Whether it is known if pictures are turned to the side; that comes with the decoded frames."""
        return self._turned is not None

    def orient(self, frame: VideoFrame | None) -> None:
        """Take the size of all pictures from a frame; None means as stored."""
        self._turned = frame is not None and self._orientation(frame).transposed

    def _orientation(self, frame: VideoFrame) -> Orientation:
        # Reading side data takes as long as decoding a tiny frame, so it is read again only if the rotation changes.
        if self._oriented is None or self._oriented[0] != frame.rotation:
            self._oriented = frame.rotation, Orientation.of(frame)
        return self._oriented[1]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) upright, in square pixels, unscaled."""
        return (self._height, self._width) if self._turned else (self._width, self._height)

    def make(self, frame: VideoFrame, short_side: int | None, square: int | None) -> NDArray[np.uint8]:
        """Convert one frame.

        Args:
            frame: as decoded.
            short_side: the whole picture is scaled so that its short side has this many pixels;
                None keeps its display size.
            square: side in pixels of the central square to cut out; None keeps the whole picture.

        Returns:
            uint8 (h,w,3) RGB, in memory that no other frame uses.

        Raises:
            ClipLimitError: if the scaled picture has more than `max_pixels`.
            ValueError: if the square does not fit.
        """
        if not self.oriented:
            self.orient(frame)
        orientation = self._orientation(frame)
        width, height = self.size
        if short_side is not None:
            shorter = min(width, height)
            width, height = round(width * short_side / shorter), round(height * short_side / shorter)
        if width * height > self._max_pixels:
            raise ClipLimitError(
                f"{self._name} has frames of {self._width}x{self._height}, which would be scaled to {width}x{height}, "
                f"more than the limit of {self._max_pixels} pixels; use a smaller or less elongated video"
            )
        if orientation.transposed:
            width, height = height, width
        rgb = self._reformatter.reformat(frame, width=width, height=height, format="rgb24", threads=1)
        plane = rgb.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[:height, : 3 * width]
        picture = orientation.upright(rows.reshape(height, width, 3))
        if square is not None:
            # A copy, because a view would keep the whole picture in memory.
            picture = np.ascontiguousarray(central_square(picture, square))
        return picture
