"""An open video: its properties, and frame-exact access to its frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Self

import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from numpy.typing import ArrayLike, NDArray

from sefar_serve.clip.decoder import Decoder, WrongKeyError
from sefar_serve.clip.errors import DAMAGE, ClipLimitError, UndecodableVideoError, damage_as
from sefar_serve.clip.limits import ClipLimits
from sefar_serve.clip.packets import Packets, read_packets
from sefar_serve.clip.picture import PictureMaker
from sefar_serve.clip.remembered import FileKey, Remembered, file_key, recall, remember
from sefar_serve.clip.source import VideoSource, choose_stream, hdr_warning, open_container, open_stream, source_name
from sefar_serve.clip.timeline import make_timeline


@dataclass(frozen=True)
class Frames:
    """Frames read from a video.

    Attributes:
        pixels: uint8 (N,h,w,3), RGB, upright.
        requested: int64 (N,), numbers of the frames requested.
        indices: int64 (N,), numbers of the frames returned; they differ from those requested where a
            frame does not decode and another replaces it.
        times: float64 (N,), seconds since the first presented frame.
        corrupt: numbers of returned frames that the decoder flagged as damaged.
    """

    pixels: NDArray[np.uint8]
    requested: NDArray[np.int64]
    indices: NDArray[np.int64]
    times: NDArray[np.float64]
    corrupt: tuple[int, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """One for each replaced frame."""
        return replacements(self.requested, self.indices)


@dataclass(frozen=True)
class Shape:
    """How large the pictures of frames are.

    Attributes:
        short_side: whole pictures are scaled so that the short side has this many pixels; None keeps the display size.
        square: then the central square of this side in pixels is cut; None keeps whole pictures.
    """

    short_side: int | None = None
    square: int | None = None


@dataclass
class _Decoded:
    """Pictures by frame number, one of each shape, and the numbers of frames that the decoder flagged as damaged."""

    shapes: Sequence[Shape]
    pictures: dict[int, list[NDArray[np.uint8]]]
    corrupt: set[int]


def replacements(requested: NDArray[np.int64], shown: NDArray[np.int64]) -> tuple[str, ...]:
    """A warning for each frame that another replaces.

    Args:
        requested: int64 (N,), frame numbers.
        shown: int64 (N,), numbers of the frames that are shown instead.
    """
    pairs = dict(zip(requested.tolist(), shown.tolist(), strict=True))
    return tuple(f"frame {n} does not decode, used frame {m} instead" for n, m in pairs.items() if n != m)


def nearest(number: int, within: Sequence[int], decodable: Iterable[int]) -> int | None:
    """Choose the frame that replaces one that does not decode.

    Args:
        number: number of the frame that does not decode.
        within: the range [first, past) to choose from.
        decodable: numbers of frames that decode, ascending; ties go to the first.

    Returns:
        The number of the nearest frame, or None if none in the range decodes.
    """
    near = [n for n in decodable if within[0] <= n < within[1]]
    return min(near, key=lambda n: abs(n - number)) if near else None


class Video:
    """A video opened for reading frames; a context manager, not thread-safe.

    Frame i is the i-th frame presented, whatever the container says about counts and rates.

    Args:
        source: a local path, the bytes of a file, or a binary file object.
        name: name in error messages; the path by default.
        limits: checked before anything is decoded.
        threads: threads of the decoder; 1 is best if several videos decode at a time, 0 lets FFmpeg choose.

    Attributes:
        name: as given.
        frame_count: number of frames presented.
        times: float64 (frame_count,), seconds of presentation since the first presented frame.
        duration: seconds until the end of the last frame.
        average_rate: frames per second, on average.
        stream_index: index of the stream in its container.
        codec: e.g. ``h264``.
        warnings: e.g. that there were several video streams to choose from.

    Raises:
        FileNotFoundError: if the path does not exist.
        ClipError: a subclass of it, if it is not a usable video.
    """

    def __init__(
        self,
        source: VideoSource,
        *,
        name: str | None = None,
        limits: ClipLimits = ClipLimits(),  # noqa: B008  (frozen)
        threads: int = 1,
    ) -> None:
        self.name = name if name is not None else source_name(source)
        key = file_key(source, limits)
        container = open_container(source, self.name, limits)
        try:
            self._open(source, container, key, limits, threads)
        except BaseException:
            container.close()
            raise

    def _open(
        self, source: VideoSource, container: InputContainer, key: FileKey | None, limits: ClipLimits, threads: int
    ) -> None:
        stream, choice = choose_stream(container, self.name, limits)
        codec = stream.codec_context
        self.stream_index: int = stream.index
        # No reference to this object, which would keep it until the next garbage collection, or to the stream, which is
        # gone when its container is closed.
        reopen = partial(open_stream, source, self.name, limits, self.stream_index)
        with damage_as(UndecodableVideoError, f"{self.name} is damaged; use an undamaged file"):
            self.codec: str = codec.codec.canonical_name
            self._pictures = PictureMaker(
                codec.width, codec.height, stream.sample_aspect_ratio, limits.max_pixels, self.name
            )
            known = recall(key)
            if known is not None:
                table, timeline, held = known.table, known.timeline, None
            else:
                table, held = read_packets(container, stream, self.codec, self.name, limits)
                timeline = make_timeline(table, container, stream, self.codec, self.name, limits)
            self._packets = Packets(table, held, (container, stream), reopen, codec.extradata or b"", self.name)
            self._packets.stamp(timeline.stamps)
            self._decoder = Decoder(codec, self._packets, timeline, max_pixels=limits.max_pixels, threads=threads)
            self._coded_size, self._max_decoded_pixels = (codec.width, codec.height), limits.max_decoded_pixels
            if known is not None:
                pass  # its frames were counted
            elif not timeline.counted:
                self._check_work(len(table))
                stamps = [frame.pts for frame in self._decoder.in_turn()]
                timeline = timeline.learned(stamps, self.codec, float(stream.time_base or 0))
            elif head := timeline.uncertain_head():
                timeline = timeline.without(set(range(head)) - self._shown_before(head))
        self._decoder.timeline = self._timeline = timeline
        if not timeline.frame_count:
            raise UndecodableVideoError(f"no frame of {self.name} decodes; use an undamaged file")
        remember(key, Remembered(table, timeline))
        self._key = key
        self.times: NDArray[np.float64] = timeline.times
        self.times.flags.writeable = False
        self.duration: float = timeline.duration
        self.average_rate: float = timeline.frame_count / timeline.duration
        hdr = hdr_warning(codec)
        self.warnings: tuple[str, ...] = (*choice, *([hdr] if hdr else []), *timeline.warnings)

    def check_work(self, reads: Iterable[Iterable[int]]) -> None:
        """Estimate how much work reads are, from the packets to decode and their pixels, before anything is decoded.

        Args:
            reads: the frame numbers of each `read` that will follow.

        Raises:
            ClipLimitError: more than `ClipLimits.max_decoded_pixels`.
        """
        self._check_work(sum(self._decoder.packets_for(set(numbers)) for numbers in reads))

    def _check_work(self, packets: int) -> None:
        width, height = self._coded_size
        pixels = packets * width * height
        if pixels > self._max_decoded_pixels:
            raise ClipLimitError(
                f"{self.name}: {packets} frames of {width}x{height} would have to be decoded, {pixels / 1e9:.1f} "
                f"gigapixels, more than the {self._max_decoded_pixels / 1e9:.1f} that the time limit allows; use a "
                "part of it, or scale it down"
            )

    def _shown_before(self, number: int) -> set[int]:
        """The frames before `number` that the decoder outputs when it decodes from the start."""
        shown = set()
        for n, _ in self._decoder.everything():
            if n >= number:
                break
            shown.add(n)
        return shown

    @property
    def frame_count(self) -> int:
        """Number of frames presented."""
        return self._timeline.frame_count

    @property
    def width(self) -> int:
        """Width of the upright video, in square pixels."""
        return self._upright_size()[0]

    @property
    def height(self) -> int:
        """Height of the upright video, in pixels."""
        return self._upright_size()[1]

    def _upright_size(self) -> tuple[int, int]:
        if not self._pictures.oriented:
            self._pictures.orient(next((frame for _, frame in self._decoder.everything()), None))
        return self._pictures.size

    def read(
        self,
        indices: Iterable[int] | NDArray[np.int64],
        short_side: int | None = None,
        *,
        square: int | None = None,
        within: ArrayLike | None = None,
    ) -> Frames:
        """Decode frames by number, each once, and as few others as possible.

        Args:
            indices: N frame numbers in [0, frame_count), in any order, repeats allowed.
            short_side: scale whole pictures so that the short side has this many pixels; None keeps the display size.
            square: then cut the central square of this side in pixels; None keeps whole pictures.
            within: int (N,2), for each index the range [first, past) from which the nearest frame replaces it
                if it does not decode; None allows no replacement.

        Returns:
            The frames in the order of `indices`.

        Raises:
            IndexError: a number is out of range.
            UndecodableVideoError: a frame does not decode, and no other may replace it.
            ClipLimitError, ValueError: from scaling and cutting, see `PictureMaker.make`.
        """
        return self.read_shapes(indices, [Shape(short_side, square)], within=within)[0]

    def read_shapes(
        self,
        indices: Iterable[int] | NDArray[np.int64],
        shapes: Sequence[Shape],
        *,
        within: ArrayLike | None = None,
    ) -> list[Frames]:
        """Decode frames by number, each once, and make a picture of each shape from it.

        Args:
            indices: see `read`.
            shapes: of the pictures, at least one.
            within: see `read`.

        Returns:
            For each shape, the same frames in the order of `indices`.

        Raises:
            IndexError, UndecodableVideoError, ClipLimitError, ValueError: see `read`.
        """
        wanted = np.asarray(indices if isinstance(indices, np.ndarray) else list(indices), dtype=np.int64)
        if not len(wanted):
            raise ValueError("indices is empty; give at least one frame number")
        if wanted.min() < 0 or wanted.max() >= self.frame_count:
            raise IndexError(f"{self.name} has frames 0 to {self.frame_count - 1}; got {wanted.tolist()}")
        numbers = set(wanted.tolist())
        decoded, decodable = self._decode(numbers, shapes)
        shown = wanted.tolist()
        if numbers - decoded.pictures.keys():
            ranges = np.asarray(within, dtype=np.int64).tolist() if within is not None else None
            shown = [
                n if n in decoded.pictures else self._replacement(n, ranges[i] if ranges else (n, n), decodable)
                for i, n in enumerate(shown)
            ]
            more = set(shown) - decoded.pictures.keys()
            if more:
                extra, _ = self._decode_all(more, shapes)
                decoded.pictures.update(extra.pictures)
                decoded.corrupt |= extra.corrupt
        corrupt = tuple(sorted(decoded.corrupt & set(shown)))
        return [
            Frames(
                np.stack([decoded.pictures[n][shape] for n in shown]),
                wanted,
                np.array(shown, dtype=np.int64),
                self.times[shown],
                corrupt,
            )
            for shape in range(len(shapes))
        ]

    def _decode(self, numbers: set[int], shapes: Sequence[Shape]) -> tuple[_Decoded, list[int]]:
        """Decode only what is needed; if that does not give every frame undamaged, decode everything in order."""
        positions = self._timeline.positions
        if positions is not None and max(numbers) < len(positions):
            decoded = _Decoded(shapes, {}, set())
            try:
                for number, frame in self._decoder.exact(numbers):
                    self._keep(number, frame, decoded)
            except WrongKeyError:
                self._decoder.timeline = self._timeline = self._timeline.in_turn()
                remember(self._key, Remembered(self._packets.table, self._timeline))
                return self._decode_all(numbers, shapes)
            except DAMAGE:
                return self._decode_all(numbers, shapes)
            if len(decoded.pictures) == len(numbers) and not decoded.corrupt:
                return decoded, []
        return self._decode_all(numbers, shapes)

    def _decode_all(self, numbers: set[int], shapes: Sequence[Shape]) -> tuple[_Decoded, list[int]]:
        """Decode in order until the wanted frames are found; also return the numbers of all that decoded."""
        decoded, decodable = _Decoded(shapes, {}, set()), []
        with damage_as(
            UndecodableVideoError,
            f"{self.name} has a pixel format that cannot be converted to RGB; convert it to H.264",
        ):
            for number, frame in self._decoder.everything():
                decodable.append(number)
                if number in numbers:
                    self._keep(number, frame, decoded)
                    if len(decoded.pictures) == len(numbers):
                        break
        return decoded, decodable

    def _keep(self, number: int, frame: VideoFrame, into: _Decoded) -> None:
        into.pictures[number] = [self._pictures.make(frame, shape.short_side, shape.square) for shape in into.shapes]
        if frame.is_corrupt:
            into.corrupt.add(number)

    def _replacement(self, number: int, within: Sequence[int], decodable: list[int]) -> int:
        found = nearest(number, within, decodable)
        if found is not None:
            return found
        cut = "; ".join(self.warnings)
        raise UndecodableVideoError(
            f"frame {number} of {self.name} does not decode, and no frame near it does: {len(decodable)} of "
            f"{self.frame_count} frames decode{f' ({cut})' if cut else ''}; use an undamaged file",
            len(decodable),
        )

    def close(self) -> None:
        """Close the file."""
        self._packets.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
