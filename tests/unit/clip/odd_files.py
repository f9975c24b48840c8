"""A table of odd video files: codecs, containers, flags, orders, orientations and joins. One line makes one file."""

from __future__ import annotations

import io
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import av
from av.packet import PacketSideData, packet_sidedata_type_from_literal

FRAMES, RATE = 50, 25

Step = Callable[[bytes, Path], bytes]
"""Changes a file: its bytes before, and an empty folder to work in."""


@dataclass(frozen=True)
class Odd:
    """A file to make.

    Attributes:
        name: of the test.
        encode: options of FFmpeg's encoder.
        suffix: of the container.
        steps: changes, in order.
        frames: number of frames that it shows; None for what a sequential decode gives.
        seconds: its duration; None does not check it.
    """

    name: str
    encode: str
    suffix: str
    steps: tuple[Step, ...] = ()
    frames: int | None = FRAMES
    seconds: float | None = FRAMES / RATE


def odd(
    name: str,
    encode: str,
    suffix: str,
    *steps: Step,
    frames: int | None = FRAMES,
    seconds: float | None = FRAMES / RATE,
) -> Odd:
    return Odd(name, encode, suffix, steps, frames, seconds)


def ffmpeg(*arguments: str | Path) -> None:
    """Run FFmpeg.

    Raises:
        subprocess.CalledProcessError: it fails.
    """
    command = ["ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "error", "-y", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


@cache
def encoders() -> frozenset[str]:
    """The video encoders that this FFmpeg has."""
    listed = subprocess.run(["ffmpeg", "-hide_banner", "-encoders"], check=True, capture_output=True, text=True)
    return frozenset(line.split()[1] for line in listed.stdout.splitlines() if line.startswith(" V"))


def encoder_of(file: Odd) -> str:
    """The encoder that a file needs."""
    words = file.encode.split()
    return words[words.index("-c:v") + 1]


def source(frames: int = FRAMES, first: int = 0, size: str = "64x48") -> list[str]:
    """Options for a moving picture that differs from frame to frame."""
    graph = f"testsrc2=size={size}:rate={RATE}:duration={(first + frames) / RATE}"
    if first:
        graph += f",trim=start_frame={first},setpts=PTS-STARTPTS"
    return ["-f", "lavfi", "-i", graph]


def encoded(encode: str, path: Path, frames: int = FRAMES, first: int = 0, size: str = "64x48") -> bytes:
    """Encode the moving picture."""
    ffmpeg(*source(frames, first, size), "-an", "-threads", "1", *encode.split(), path)
    return path.read_bytes()


def make(file: Odd, folder: Path) -> Path:
    """Make a file in an empty folder."""
    data = encoded(file.encode, folder / f"new.{file.suffix}")
    suffix = file.suffix
    for number, step in enumerate(file.steps):
        inside = folder / f"step{number}"
        inside.mkdir()
        data = step(data, inside)
        suffix = getattr(step, "suffix", suffix)
    path = folder / f"odd.{suffix}"
    path.write_bytes(data)
    return path


def renamed(box: bytes, other: bytes, *, last: bool = True) -> Step:
    """Overwrite the name of a box or chunk, so that no reader finds it."""

    def step(data: bytes, folder: Path) -> bytes:
        at = data.rfind(box) if last else data.find(box)
        assert at >= 0, f"no {box!r}"
        return data[:at] + other + data[at + len(box) :]

    return step


NO_INDEX = renamed(b"idx1", b"JUNK")
NO_KEYS = renamed(b"stss", b"free")


def all_keys(data: bytes, folder: Path) -> bytes:
    """Flag every frame of an AVI's index as a key frame."""
    at = data.rfind(b"idx1")
    out = bytearray(data)
    (size,) = struct.unpack_from("<I", data, at + 4)
    for entry in range(at + 8, at + 8 + size, 16):
        struct.pack_into("<I", out, entry + 4, 0x10)
    return bytes(out)


def all_sync(data: bytes, folder: Path) -> bytes:
    """Replace an MP4's list of key frames by one that names as many frames, the first ones."""
    at = data.rfind(b"stss")
    (count,) = struct.unpack_from(">I", data, at + 8)
    out = bytearray(data)
    for number in range(count):
        struct.pack_into(">I", out, at + 12 + 4 * number, number + 1)
    return bytes(out)


def copied(suffix: str, *options: str) -> Step:
    """Copy the streams to another container."""

    def step(data: bytes, folder: Path) -> bytes:
        before, after = folder / "before", folder / f"after.{suffix}"
        before.write_bytes(data)
        ffmpeg("-i", before, "-c", "copy", *options, after)
        return after.read_bytes()

    step.suffix = suffix  # type: ignore[attr-defined]
    return step


def joined(encode: str, suffix: str, *options: str, first: int = FRAMES, size: str = "64x48", frames: int = 30) -> Step:
    """Append another recording by its bytes; options are the muxer's, e.g. -output_ts_offset."""

    def step(data: bytes, folder: Path) -> bytes:
        words = [encode, *options]
        return data + encoded(" ".join(words), folder / f"more.{suffix}", frames, first, size)

    return step


def concatenated(encode: str, suffix: str, size: str = "64x48", frames: int = 30) -> Step:
    """Append another recording, encoded with other settings, without encoding the first again."""

    def step(data: bytes, folder: Path) -> bytes:
        (folder / f"a.{suffix}").write_bytes(data)
        encoded(encode, folder / f"b.{suffix}", frames, FRAMES, size)
        (folder / "list.txt").write_text(f"file a.{suffix}\nfile b.{suffix}\n")
        after = folder / f"after.{suffix}"
        ffmpeg("-f", "concat", "-safe", "0", "-i", folder / "list.txt", "-c", "copy", after)
        return after.read_bytes()

    return step


def head_cut(share: float) -> Step:
    """Remove the start of a stream of 188-byte packets."""

    def step(data: bytes, folder: Path) -> bytes:
        return data[int(len(data) * share) // 188 * 188 :]

    return step


def matrix(*values: int) -> Step:
    """Write the display matrix of the first track of an MP4: a, b, c, d, of 16.16 fixed point 1."""

    def step(data: bytes, folder: Path) -> bytes:
        at = data.find(b"tkhd") + 4
        version = data[at]
        at += 4 + (32 if version else 20) + 16
        a, b, c, d = (65536 * value for value in values)
        one = 1 << 30 if any(values) else 0
        return data[:at] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, one) + data[at + 36 :]

    return step


MIRRORED = {  # a, b, c, d: the pixel at (x, y) is shown at (a x + c y, b x + d y)
    "upright": (1, 0, 0, 1),
    "turned-90": (0, 1, -1, 0),
    "turned-180": (-1, 0, 0, -1),
    "turned-270": (0, -1, 1, 0),
    "mirrored": (-1, 0, 0, 1),
    "upside-down": (1, 0, 0, -1),
    "mirrored-90": (0, 1, 1, 0),
    "mirrored-270": (0, -1, -1, 0),
    "zero": (0, 0, 0, 0),
}


def new_headers(encode: str, suffix: str, size: str = "64x48", frames: int = 30) -> Step:
    """Append another recording whose decoder settings are stored beside its first packet, not in it."""

    def step(data: bytes, folder: Path) -> bytes:
        more = encoded(encode, folder / f"more.{suffix}", frames, FRAMES, size)
        out, end = io.BytesIO(), 0
        with av.open(io.BytesIO(data)) as one, av.open(io.BytesIO(more)) as two, av.open(out, "w", format=suffix) as to:
            stream = to.add_stream_from_template(one.streams.video[0])
            for part in (one, two):
                base, new = end, part is two
                for packet in part.demux(video=0):
                    if packet.dts is None or packet.pts is None:
                        continue
                    packet.pts, packet.dts = packet.pts + base, packet.dts + base
                    end = max(end, packet.pts + (packet.duration or 0))
                    if new:
                        header = part.streams.video[0].codec_context.extradata or b""
                        side = PacketSideData(packet_sidedata_type_from_literal("new_extradata"), len(header))
                        side.update(header)
                        packet.set_sidedata(side)
                        new = False
                    packet.stream = stream
                    to.mux(packet)
        return out.getvalue()

    return step


def sets_once(data: bytes, folder: Path) -> bytes:
    """Keep only the first parameter sets of a raw H.264 stream; encoders repeat them before each key frame."""
    units = data.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")[1:]
    seen: set[int] = set()
    kept = []
    for unit in units:
        kind = unit[0] & 31
        if kind in (7, 8) and kind in seen:
            continue
        if kind in (7, 8):
            seen.add(kind)
        kept.append(unit)
    return b"".join(b"\0\0\0\1" + unit for unit in kept)


def and_then(encode: str, suffix: str, *steps: Step, frames: int = 30, size: str = "64x48") -> Step:
    """Append another recording after changing it."""

    def step(data: bytes, folder: Path) -> bytes:
        more = encoded(encode, folder / f"more.{suffix}", frames, FRAMES, size)
        for change in steps:
            more = change(more, folder)
        return data + more

    return step


X264 = "-c:v libx264 -preset ultrafast -g 10"
X264_B = "-c:v libx264 -preset veryfast -g 10 -bf 2"
OPEN_B = "-c:v libx264 -preset veryfast -x264-params open-gop=1:keyint=10:min-keyint=10:bframes=4:scenecut=0"
OTHER = "-c:v libx264 -preset veryfast -g 10 -bf 0 -x264-params cabac=0:ref=4"
X265 = "-c:v libx265 -preset ultrafast -x265-params log-level=none:pools=none:frame-threads=1:keyint=10:bframes=3"
X265_OPEN = f"{X265}:open-gop=1:min-keyint=10:scenecut=0"
VP8 = "-c:v libvpx -deadline realtime -cpu-used 8 -g 10 -b:v 300k"
VP9 = "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 10 -b:v 300k"
AV1 = "-c:v libaom-av1 -usage realtime -cpu-used 8 -g 10 -b:v 200k"
MPEG1 = "-c:v mpeg1video -g 10 -bf 2 -q:v 4"
MPEG2 = "-c:v mpeg2video -g 10 -bf 2 -q:v 4"
MPEG4 = "-c:v mpeg4 -g 25 -bf 0 -q:v 4"
MPEG4_B = "-c:v mpeg4 -g 12 -bf 2 -q:v 4"
MJPEG = "-c:v mjpeg -q:v 4"

PREDICTED_IN_AVI = {
    "msmpeg4v2": "-c:v msmpeg4v2 -g 12 -q:v 4",
    "msmpeg4v3": "-c:v msmpeg4 -g 12 -q:v 4",
    "wmv1": "-c:v wmv1 -g 12 -q:v 4",
    "wmv2": "-c:v wmv2 -g 12 -q:v 4",
    "h263": "-c:v h263 -s 176x144 -g 12 -q:v 4",
    "h263p": "-c:v h263p -g 12 -q:v 4",
    "flv1": "-c:v flv -g 12 -q:v 4",
    "mpeg4": "-c:v mpeg4 -g 12 -bf 0 -q:v 4",
    "cinepak": "-c:v cinepak -g 12",
    "msvideo1": "-c:v msvideo1 -g 12",
    "zmbv": "-c:v zmbv -g 12",
    "snow": "-c:v snow -g 12 -strict -2",
    "svq1": "-c:v svq1 -g 12 -q:v 4",
    "h261": "-c:v h261 -s 176x144 -g 12 -q:v 4",
    "flashsv": "-c:v flashsv -g 12",
    "h264": X264,
    "h264-b": X264_B,
    "mpeg2": MPEG2,
    "vp8": VP8,
}
PREDICTED_IN_MOV = {
    "mpeg4": MPEG4,
    "h263": "-c:v h263 -s 176x144 -g 12 -q:v 4",
    "qtrle": "-c:v qtrle -g 12",
    "smc": "-c:v smc -g 12",
    "svq1": "-c:v svq1 -g 12 -q:v 4",
    "cinepak": "-c:v cinepak -g 12",
    "h264": X264,
    "h264-b": X264_B,
    "h264-open": OPEN_B,
    "hevc": X265,
    "hevc-open": X265_OPEN,
    "mpeg2": MPEG2,
}
ALONE = {  # every frame by itself
    "mjpeg": (MJPEG, ("avi", "mov", "mkv")),
    "ljpeg": ("-c:v ljpeg -pix_fmt yuvj420p", ("avi",)),
    "png": ("-c:v png", ("avi", "mov")),
    "ffv1": ("-c:v ffv1", ("avi", "mkv")),
    "huffyuv": ("-c:v huffyuv", ("avi",)),
    "utvideo": ("-c:v utvideo", ("avi",)),
    "prores": ("-c:v prores", ("mov",)),
    "rawvideo": ("-c:v rawvideo", ("avi", "nut")),
    "rawvideo-rgb": ("-c:v rawvideo -pix_fmt rgb24", ("mov", "avi")),
    "rawvideo-palette": ("-c:v rawvideo -pix_fmt pal8", ("avi", "mov")),
    "dvvideo": ("-c:v dvvideo -s 720x576 -pix_fmt yuv420p", ("dv", "avi")),
    "v210": ("-c:v v210", ("mov",)),
    "jpeg2000": ("-c:v jpeg2000", ("mov",)),
    "magicyuv": ("-c:v magicyuv", ("avi",)),
    "asv2": ("-c:v asv2 -q:v 4", ("avi",)),
}
PLAIN = [
    ("h264", X264, "mp4 mov mkv flv ts avi nut 3gp m4v"),
    ("h264-b", X264_B, "mp4 mov mkv flv ts avi nut"),
    ("h264-open", OPEN_B, "mp4 mkv ts"),
    ("hevc", X265, "mp4 mkv ts"),
    ("hevc-open", X265_OPEN, "mp4 mkv ts"),
    ("vp8", VP8, "webm avi ivf"),
    ("vp9", VP9, "webm mp4 ivf"),
    ("av1", AV1, "mp4 webm ivf obu"),
    ("mpeg1", MPEG1, "mpg mkv ts"),
    ("mpeg2", MPEG2, "mpg vob ts mkv mxf avi mp4"),
    ("mpeg4", MPEG4, "mp4 avi mkv ts"),
    ("mpeg4-b", MPEG4_B, "mp4 avi mkv"),
    ("wmv2", "-c:v wmv2 -g 12 -q:v 4", "wmv"),
    ("flv1", "-c:v flv -g 12 -q:v 4", "flv"),
    ("rv20", "-c:v rv20 -s 176x144 -g 12 -q:v 4", "rm"),
    ("gif", "-c:v gif", "gif"),
]
TS = "ts"
BACK, FORWARD = "-output_ts_offset -7200", "-output_ts_offset"

TABLE = [
    *(odd(f"{name}-{suffix}", encode, suffix) for name, encode, into in PLAIN for suffix in into.split()),
    *(odd(f"{name}-{suffix}", encode, suffix) for name, (encode, into) in ALONE.items() for suffix in into),
    # Flags: every packet is called a key frame.
    *(odd(f"no-index-{name}-avi", encode, "avi", NO_INDEX) for name, encode in PREDICTED_IN_AVI.items()),
    *(odd(f"all-keys-{name}-avi", encode, "avi", all_keys) for name, encode in PREDICTED_IN_AVI.items()),
    *(odd(f"no-keys-{name}-mov", encode, "mov", NO_KEYS) for name, encode in PREDICTED_IN_MOV.items()),
    *(odd(f"first-keys-{name}-mov", encode, "mov", all_sync) for name, encode in PREDICTED_IN_MOV.items()),
    *(odd(f"no-keys-{name}-mp4", encode, "mp4", NO_KEYS) for name, encode in (("av1", AV1), ("vp9", VP9))),
    *(odd(f"first-keys-{name}-mp4", encode, "mp4", all_sync) for name, encode in (("av1", AV1), ("vp9", VP9))),
    odd("rpza-mov", "-c:v rpza -g 12", "mov"),
    odd("no-keys-mpeg4-mp4", MPEG4, "mp4", NO_KEYS),
    odd("no-keys-h264-mp4", X264_B, "mp4", NO_KEYS),
    odd("no-keys-hevc-mp4", X265_OPEN, "mp4", NO_KEYS),
    # New parameter sets in mid-stream.
    *(odd(f"new-headers-{o}", X264_B, o, new_headers(OTHER, o), frames=80, seconds=3.2) for o in ("mp4", "mov", "flv")),
    odd("new-headers-size-mp4", X264_B, "mp4", new_headers(OTHER, "mp4", "96x64"), frames=80, seconds=3.2),
    odd("new-headers-hevc-mp4", X265, "mp4", new_headers(f"{X265}:ctu=16", "mp4"), frames=80, seconds=3.2),
    odd("concat-mp4", X264_B, "mp4", concatenated(OTHER, "mp4"), frames=80, seconds=3.2),
    odd("concat-mkv", X264_B, "mkv", concatenated(OTHER, "mkv"), frames=80, seconds=3.2),
    odd("concat-flv", X264_B, "flv", concatenated(OTHER, "flv"), frames=80, seconds=None),
    odd("sets-once-raw", X264_B, "h264", sets_once, and_then(OTHER, "h264", sets_once), frames=80, seconds=None),
    odd(
        *("sets-once-mkv", X264, "h264", sets_once, and_then(OTHER, "h264", sets_once), copied("mkv")),
        frames=80,
        seconds=3.2,
    ),
    # The order of presentation is lost.
    odd("lost-order-h264", X264_B, "mp4", copied("avi"), copied("mp4")),
    odd("lost-order-h264-mkv", X264_B, "mp4", copied("avi"), copied("mp4"), copied("mkv")),
    odd("lost-order-h264-open", OPEN_B, "mp4", copied("avi"), copied("mp4")),
    odd("lost-order-raw-mp4", X264_B, "h264", copied("mp4"), frames=None, seconds=None),
    odd("lost-order-raw-mkv", X264_B, "h264", copied("mp4"), copied("mkv")),
    odd("lost-order-mpeg4", MPEG4_B, "avi", copied("mp4"), seconds=None),
    odd("lost-order-mpeg4-mkv", MPEG4_B, "avi", copied("mp4"), copied("mkv"), frames=None, seconds=None),
    odd("lost-order-xvid", "-c:v libxvid -g 12 -bf 2 -q:v 4", "avi", copied("mp4"), frames=None, seconds=None),
    odd("lost-order-mpeg2", MPEG2, "mpg", copied("avi"), copied("mp4"), frames=None, seconds=None),
    odd("lost-order-raw-hevc", X265, "hevc", copied("mp4"), copied("mkv"), seconds=None),
    odd("raw-h264", X264_B, "h264"),
    odd("raw-hevc", X265, "hevc"),
    odd("raw-mpeg2", MPEG2, "m2v"),
    odd("raw-mpeg4", MPEG4_B, "m4v", seconds=None),
    # Joined and cut recordings.
    odd("joined-back", f"{X264_B} -output_ts_offset 7200", TS, joined(X264_B, TS), frames=80, seconds=3.2),
    odd("joined-back-60", f"{X264_B} -output_ts_offset 70", TS, joined(X264_B, TS), frames=80, seconds=3.2),
    odd("joined-back-little", f"{X264_B} -output_ts_offset 5", TS, joined(X264_B, TS), frames=80, seconds=3.2),
    odd("joined-again", X264_B, TS, joined(X264_B, TS), frames=80, seconds=3.2),
    odd("joined-forward", X264_B, TS, joined(f"{X264_B} -output_ts_offset 7200", TS), frames=80, seconds=3.2),
    odd("joined-day", X264_B, TS, joined(f"{X264_B} -output_ts_offset 80000", TS), frames=80, seconds=3.2),
    odd("joined-back-day", f"{X264_B} -output_ts_offset 80000", TS, joined(X264_B, TS), frames=80, seconds=3.2),
    odd("joined-open", f"{OPEN_B} -output_ts_offset 7200", TS, joined(OPEN_B, TS), frames=80, seconds=3.2),
    odd("joined-sets", f"{X264_B} -output_ts_offset 900", TS, joined(OTHER, TS), frames=80, seconds=3.2),
    odd("joined-size", X264_B, TS, joined(OTHER, TS, size="96x64"), frames=80, seconds=3.2),
    odd("joined-hevc", f"{X265_OPEN} -output_ts_offset 900", TS, joined(X265_OPEN, TS), frames=80, seconds=3.2),
    odd("joined-mpeg2", f"{MPEG2} -output_ts_offset 900", TS, joined(MPEG2, TS), frames=None, seconds=3.2),
    odd("joined-mpg", MPEG2, "mpg", joined(MPEG2, "mpg"), frames=None, seconds=3.2),
    odd(
        *("joined-three", f"{X264_B} -output_ts_offset 900", TS),
        *(joined(X264_B, TS), joined(f"{X264_B} -output_ts_offset 5000", TS, first=80)),
        frames=110,
        seconds=4.4,
    ),
    odd("wrapped", f"{X264_B} -output_ts_offset 95442.7", TS),
    odd("wrapped-hevc", f"{X265_OPEN} -output_ts_offset 95442.2", TS),
    *(odd(f"head-cut-{n}", OPEN_B, TS, head_cut(n / 10), frames=None, seconds=None) for n in (2, 5)),
    odd("head-cut-hevc", X265_OPEN, TS, head_cut(0.4), frames=None, seconds=None),
    odd("head-cut-mpeg2", MPEG2, TS, head_cut(0.4), frames=None, seconds=None),
    odd("joined-cut", OPEN_B, TS, head_cut(0.3), joined(OPEN_B, TS), frames=None, seconds=None),
    # Orders.
    odd("mpeg1-b-avi", MPEG1, "avi", seconds=None),
    odd("mpeg1-b-no-index-avi", MPEG1, "avi", NO_INDEX, seconds=None),
    odd("mpeg1-b-all-keys-avi", MPEG1, "avi", all_keys, seconds=None),
    *(odd(f"theora-{o}", "-c:v libtheora -g 10 -q:v 6", o, frames=None, seconds=None) for o in ("ogv", "mkv")),
    odd("xvid-packed-avi", "-c:v libxvid -g 12 -bf 2 -q:v 4", "avi", frames=None, seconds=None),
    odd("fragmented", f"{X264_B} -movflags frag_keyframe+empty_moov", "mp4"),
    odd("fragmented-small", f"{X264_B} -movflags frag_every_frame+empty_moov+default_base_moof", "mp4"),
    odd("faststart", f"{X264_B} -movflags faststart", "mp4"),
    odd("pyramid", f"{X264_B} -x264-params b-pyramid=strict:bframes=5:b-adapt=0", "mp4"),
    odd("refresh", "-c:v libx264 -preset veryfast -x264-params intra-refresh=1:keyint=10", "mp4"),
    odd("interlaced", "-c:v libx264 -preset veryfast -g 12 -flags +ildct+ilme -x264-params tff=1", "mp4"),
    odd("interlaced-ts", "-c:v libx264 -preset veryfast -g 12 -flags +ildct+ilme -x264-params tff=1", "ts"),
    odd("slices", f"{X264_B} -slices 4", "mp4"),
    odd("keys-only", "-c:v libx264 -preset ultrafast -g 1", "mp4"),
    odd("one-key", "-c:v libx264 -preset veryfast -g 999 -bf 2", "mp4"),
    odd("variable-rate", f"{X264_B} -vf setpts=N/25/TB+mod(N\\,3)*0.01/TB -fps_mode passthrough", "mkv", seconds=None),
    odd("vp9-hidden", "-c:v libvpx-vp9 -lag-in-frames 16 -auto-alt-ref 1 -g 20 -b:v 100k -cpu-used 5", "webm"),
    odd("vp8-hidden", "-c:v libvpx -lag-in-frames 16 -auto-alt-ref 1 -g 20 -b:v 100k -cpu-used 5", "webm"),
    odd("av1-layers", "-c:v libaom-av1 -cpu-used 8 -g 30 -b:v 200k", "mkv"),
    # Orientations.
    *(odd(f"matrix-{name}", X264, "mp4", matrix(*values)) for name, values in MIRRORED.items()),
    odd("matrix-turned-mpeg4", MPEG4, "mov", matrix(0, 1, -1, 0)),
    odd("matrix-mirrored-hevc", X265, "mp4", matrix(0, 1, 1, 0)),
]
