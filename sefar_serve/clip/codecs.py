"""What is known of codecs: where their decoders can start, whatever the flags in the file say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from av.packet import Packet
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

FLAGS_CAN_BE_CHECKED = frozenset(
    {
        *("h264", "hevc", "vvc", "vp3", "theora", "vp5", "vp6", "vp6f", "vp6a", "vp8", "vp9", "av1", "cavs"),
        *("mpeg1video", "mpeg2video", "mpeg4", "msmpeg4v1", "msmpeg4v2", "msmpeg4v3", "wmv1", "wmv2", "wmv3", "vc1"),
        *("h261", "h263", "h263p", "flv1", "rv10", "rv20", "rv30", "rv40", "svq1", "svq3", "ffv1"),
    }
)
"""Codecs whose decoders say which frames are key frames, so that a wrong flag in the file is noticed."""

REFLAGGED = frozenset({"h264", "hevc", "vp8", "vp9", "av1", "mpeg1video", "mpeg2video"})
"""Codecs whose packets FFmpeg looks into where a file flags all of them as key frames."""

EACH_FRAME_ALONE = frozenset(
    {
        *("mjpeg", "mjpegb", "ljpeg", "jpegls", "jpeg2000", "png", "bmp", "tiff", "targa", "webp", "sgi", "exr", "dpx"),
        *("prores", "prores_raw", "dnxhd", "cfhd", "dvvideo", "hap", "speedhq", "avui", "asv1", "asv2", "cljr", "aic"),
        *("huffyuv", "ffvhuff", "utvideo", "magicyuv", "hymt", "rawvideo", "v210", "v210x", "v308", "v408", "v410"),
        *("r210", "r10k", "yuv4", "ayuv", "y41p", "bitpacked", "012v", "qoi", "media100", "vble", "dxv", "notchlc"),
    }
)
"""Codecs that predict nothing from other frames."""

HEAD = 8192
"""Bytes at the start of a packet in which parameter sets are looked for."""


@dataclass(frozen=True)
class _Units:
    """How the units of a codec's packets are told apart: the types that hold parameter sets, and pictures."""

    sets: frozenset[int]
    pictures: frozenset[int]
    shift: int
    mask: int
    length_at: int


_UNITS = {
    "h264": _Units(frozenset({7, 8}), frozenset({1, 2, 5}), 0, 0x1F, 4),
    "hevc": _Units(frozenset({32, 33, 34}), frozenset(range(32)), 1, 0x3F, 21),
}


def starts_decoding(codec: str, frame: VideoFrame) -> bool:
    """Whether a frame that the file flags as a key frame is one, as the decoder sees it.

    Args:
        codec: canonical name.
        frame: the decoded frame.
    """
    # An I frame of H.264 without a recovery point is not flagged by the decoder, and starts an open group.
    return bool(frame.key_frame) or (codec == "h264" and frame.pict_type == PictureType.I)


def has_parameter_sets(codec: str) -> bool:
    """Whether packets of the codec may hold parameter sets, which decoders keep until others replace them."""
    return codec in _UNITS


def parameter_sets(codec: str, extradata: bytes, packet: Packet[VideoStream]) -> tuple[bytes, bool]:
    """The parameter sets in a packet, before its first picture.

    Args:
        codec: one that `has_parameter_sets`.
        extradata: the stream's, which says how units are separated.
        packet: the packet.

    Returns:
        The sets, joined, and whether there is one of each type.
    """
    kinds = _UNITS[codec]
    found: list[bytes] = []
    types: set[int] = set()
    for unit in _units(bytes(memoryview(packet)[:HEAD]), extradata, kinds.length_at):
        kind = unit[0] >> kinds.shift & kinds.mask
        if kind in kinds.sets:
            found.append(unit)
            types.add(kind)
        elif kind in kinds.pictures:
            break
    return b"".join(found), types == kinds.sets


def is_bidirectional(extradata: bytes, packet: Packet[VideoStream]) -> bool:
    """Whether a packet of H.264 holds a B slice, so that frames may be shown in another order than they are stored.

    Args:
        extradata: the stream's, which says how units are separated.
        packet: the packet.
    """
    kinds = _UNITS["h264"]
    for unit in _units(bytes(memoryview(packet)[:HEAD]), extradata, kinds.length_at):
        if unit[0] & kinds.mask in kinds.pictures:
            bits = "".join(f"{byte:08b}" for byte in unit[1:12])
            _first_macroblock, at = _exponential_golomb(bits, 0)
            slice_type, _ = _exponential_golomb(bits, at)
            return slice_type % 5 == 1
    return False


def _exponential_golomb(bits: str, at: int) -> tuple[int, int]:
    """A number in Exp-Golomb code (H.264, 9.1) and where the next begins."""
    zeros = bits.find("1", at) - at
    if zeros < 0:
        return 0, len(bits)
    end = at + 2 * zeros + 1
    return int(bits[at + zeros : end], 2) - 1, end


def _units(data: bytes, extradata: bytes, length_at: int) -> Iterator[bytes]:
    """Split a packet into units, at lengths (if the stream's extradata begins with 1) or at start codes."""
    if extradata[:1] == b"\1" and len(extradata) > length_at:
        size = (extradata[length_at] & 3) + 1
        at = 0
        while at + size < len(data):
            end = at + size + int.from_bytes(data[at : at + size])
            yield data[at + size : end] or b"\0"
            at = end
    else:
        yield from (unit.rstrip(b"\0") or b"\0" for unit in data.split(b"\0\0\1")[1:])
