"""Cost of decoding, ours against other libraries: 8 RGB frames at segment centres, short side 224, including opening.

Every way of decoding takes its turn on every file in every round, in changing order, so that a
drift of the machine's speed affects all of them. Reported is the median over rounds of the ratio of times
within a round. All decode in one thread, as in a service that decodes several videos at a time.

Ours finds the number of frames and the frames to decode itself; the others are given both.
A frame counts as wrong if another frame of a plain sequential decode of the video is nearer to it
than the requested one. The scalers differ, so frames are compared
at low resolution, and a tie between frames that look the same is not an error.

All scale with a filter over all source pixels of an output pixel, OpenCV with INTER_AREA. --opencv-linear
lets it use its default, which is faster but reads only four source pixels at any scale (aliasing).

decord and torchcodec are measured if they are installed.
Run: python benchmarks/decode.py [--videos FOLDER] [--rounds N] [--json FILE] [--no-made]
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from sefar_serve.clip import Video

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read when OpenCV is imported
import cv2

console = Console()
FRAMES, SHORT_SIDE, COARSE = 8, 224, 8
ROOT = Path(__file__).resolve().parent.parent
TIE = 0.05
"""Grey levels, besides 10 %, by which another frame must be nearer for a frame to count as wrong."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Task:
    """Frames to decode.

    Attributes:
        path: the video.
        wanted: numbers of the frames, ascending.
        size: (width, height) of the output.
        opencv_scaler: OpenCV's interpolation flag.
    """

    path: Path
    wanted: list[int]
    size: tuple[int, int]
    opencv_scaler: int = cv2.INTER_AREA


Way = Callable[[Task], Pixels]
Clock = Callable[[], float]


def centres(count: int) -> list[int]:
    """The centres of equal segments of a video of `count` frames."""
    return [(2 * i + 1) * count // (2 * FRAMES) for i in range(FRAMES)]


def ours(task: Task) -> Pixels:
    with Video(task.path) as video:
        return video.read(centres(video.frame_count), SHORT_SIDE).pixels


def full_decode(task: Task) -> Pixels:
    """PyAV: decode every frame, convert only the requested ones."""
    wanted, pictures, reformatter = set(task.wanted), {}, VideoReformatter()
    with av.open(str(task.path)) as container:
        stream = container.streams.best("video")
        stream.codec_context.thread_count = 1
        for number, frame in enumerate(container.decode(stream)):
            if number in wanted:
                pictures[number] = upright(frame, task.size, reformatter)
    return np.stack([pictures[n] for n in task.wanted])


def upright(frame: av.VideoFrame, size: tuple[int, int], reformatter: VideoReformatter) -> Pixels:
    turned = frame.rotation % 180 != 0
    width, height = (size[1], size[0]) if turned else size
    return np.rot90(reformatter.reformat(frame, width, height, "rgb24", threads=1).to_ndarray(), frame.rotation // 90)


def opencv_open(path: Path) -> cv2.VideoCapture:
    return cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])


def opencv_picture(bgr: Pixels | None, task: Task) -> Pixels:
    if bgr is None:
        raise RuntimeError("returned no frame")
    return cv2.cvtColor(cv2.resize(bgr, task.size, interpolation=task.opencv_scaler), cv2.COLOR_BGR2RGB)


def opencv_grab(task: Task) -> Pixels:
    """grab() every frame, retrieve() only the requested ones."""
    capture, pictures = opencv_open(task.path), []
    wanted = set(task.wanted)
    for number in range(task.wanted[-1] + 1):
        grabbed = capture.grab()
        if number in wanted:
            pictures.append(opencv_picture(capture.retrieve()[1] if grabbed else None, task))
    capture.release()
    by_number = dict(zip(sorted(wanted), pictures, strict=True))
    return np.stack([by_number[n] for n in task.wanted])


def opencv_seek(task: Task) -> Pixels:
    """CAP_PROP_POS_FRAMES before every frame."""
    capture, pictures = opencv_open(task.path), []
    for number in task.wanted:
        capture.set(cv2.CAP_PROP_POS_FRAMES, number)
        pictures.append(opencv_picture(capture.read()[1], task))
    capture.release()
    return np.stack(pictures)


def decord_ways() -> dict[str, Way]:
    decord = importlib.import_module("decord")
    decord.logging.set_level(decord.logging.QUIET)
    failure = importlib.import_module("decord._ffi.base").DECORDError

    def read(task: Task) -> Pixels:
        width, height = task.size
        try:
            reader = decord.VideoReader(str(task.path), width=width, height=height, num_threads=1)
            return reader.get_batch(task.wanted).asnumpy()
        except failure as error:
            raise RuntimeError(str(error)) from error

    return {"decord": read}


def torchcodec_ways() -> dict[str, Way]:
    decoders = importlib.import_module("torchcodec.decoders")
    resize = importlib.import_module("torchcodec.transforms").Resize
    importlib.import_module("torch").set_num_threads(1)

    def reading(seek_mode: str) -> Way:
        def read(task: Task) -> Pixels:
            decoder = decoders.VideoDecoder(
                str(task.path),
                dimension_order="NHWC",
                num_ffmpeg_threads=1,
                seek_mode=seek_mode,
                transforms=[resize((task.size[1], task.size[0]))],
            )
            return decoder.get_frames_at(task.wanted).data.numpy()

        return read

    return {"torchcodec exact": reading("exact"), "torchcodec approx.": reading("approximate")}


def all_ways() -> dict[str, Way]:
    """Ours first, then every other library that is installed; prints which are not."""
    ways: dict[str, Way] = {
        "ours": ours,
        "OpenCV grab/retrieve": opencv_grab,
        "OpenCV seek": opencv_seek,
        "PyAV in turn": full_decode,
    }
    for name, make in (("decord", decord_ways), ("torchcodec", torchcodec_ways)):
        try:
            ways |= make()
        except (ImportError, OSError, RuntimeError) as error:
            console.print(f"[dim]{name} is not measured: {str(error).strip().splitlines()[0]}[/dim]")
    return ways


def coarse(pictures: Pixels) -> NDArray[np.float32]:
    """Means over blocks, float32 (N, H, W, 3); they hardly differ between scalers."""
    count, height, width, _ = pictures.shape
    height, width = height // COARSE * COARSE, width // COARSE * COARSE
    blocks = pictures[:, :height, :width].reshape(count, height // COARSE, COARSE, width // COARSE, COARSE, 3)
    return blocks.mean(axis=(2, 4), dtype=np.float32)


def every_frame(path: Path) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """All frames of a sequential decode at low resolution, and the (width, height) before that."""
    reformatter, pictures, size = VideoReformatter(), [], (0, 0)
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        aspect = stream.sample_aspect_ratio or 1
        for frame in container.decode(stream):
            width, height = round(frame.width * aspect), frame.height
            if frame.rotation % 180:
                width, height = height, width
            size = (round(width * SHORT_SIDE / min(width, height)), round(height * SHORT_SIDE / min(width, height)))
            pictures.append(coarse(upright(frame, size, reformatter)[None])[0])
    return np.stack(pictures), size


def wrong(shown: Pixels, wanted: Sequence[int], truth: NDArray[np.float32]) -> int:
    """How many of the frames are not the requested ones."""
    count = 0
    for picture, number in zip(coarse(shown), wanted, strict=True):
        distance = np.abs(truth - picture).mean(axis=(1, 2, 3))
        count += bool(distance[number] > 1.1 * distance.min() + TIE or distance[number] > 25)
    return count


def make_video(path: Path, codec: str, size: tuple[int, int], count: int, options: dict[str, str]) -> Path:
    """A texture that drifts and changes brightness, so that every frame differs from its neighbours."""
    width, height = size
    rng = np.random.default_rng(0)
    coarse_noise = rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), np.uint8)
    texture = cv2.resize(coarse_noise, (width, height), interpolation=cv2.INTER_CUBIC)
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(count):
            picture = np.roll(texture, (3 * number, 5 * number), (0, 1))
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode())
    return path


def made_videos(folder: Path) -> list[Path]:
    fast = {"preset": "veryfast", "bf": "2"}
    open_gop = "open-gop=1:keyint=48:min-keyint=48:bframes=3:log-level=none"
    return [
        make_video(folder / "made_1080p_h264.mp4", "libx264", (1920, 1080), 450, {**fast, "g": "60"}),
        make_video(folder / "made_long_h264.mkv", "libx264", (640, 360), 2400, {**fast, "g": "250"}),
        make_video(
            folder / "made_open_hevc.mp4", "libx265", (960, 540), 300, {"preset": "ultrafast", "x265-params": open_gop}
        ),
    ]


@dataclass(frozen=True)
class Row:
    """One file: our milliseconds, and for every way its ratio to ours and its number of wrong frames."""

    file: str
    frames: int
    milliseconds: float
    ratios: dict[str, float]
    wrong: dict[str, int | None]


def measure(path: Path, ways: dict[str, Way], rounds: int, opencv_scaler: int, clock: Clock) -> Row:
    truth, size = every_frame(path)
    task = Task(path, centres(len(truth)), size, opencv_scaler)
    failed: dict[str, int | None] = {}
    for name, way in ways.items():  # also warms the file cache
        try:
            failed[name] = wrong(way(task), task.wanted, truth)
        except (ValueError, IndexError, RuntimeError) as error:
            console.print(f"[dim]{name} fails on {path.name}: {str(error).strip().splitlines()[0][:150]}[/dim]")
            failed[name] = None
    runs: dict[str, list[float]] = {name: [] for name, count in failed.items() if count is not None}
    names = list(runs)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            started = clock()
            ways[name](task)
            runs[name].append(clock() - started)
    ratios = {
        name: statistics.median(theirs / own for theirs, own in zip(times, runs["ours"], strict=True))
        for name, times in runs.items()
    }
    return Row(path.name, len(truth), 1000 * statistics.median(runs["ours"]), ratios, failed)


def show(rows: list[Row], ways: Sequence[str], rounds: int) -> None:
    table = Table(title=f"time relative to ours (wrong frames of {FRAMES}), medians of {rounds} interleaved rounds")
    table.add_column("file", min_width=20)  # a narrow terminal would truncate the names first
    table.add_column("frames", justify="right")
    table.add_column("ours, ms", justify="right")
    for name in ways:
        table.add_column(name, justify="right")
    for row in rows:
        cells = []
        for name in ways:
            count = row.wrong[name]
            if count is None:
                cells.append("[red]fails[/red]")
                continue
            mark = f" [red]({count})[/red]" if count else ""
            cells.append(f"{row.ratios[name]:.2f}{mark}")
        table.add_row(row.file, str(row.frames), f"{row.milliseconds:.1f}", *cells)
    console.print(table)
    exact = {
        row.file: min((row.ratios[n], n) for n in ways[1:] if row.wrong[n] == 0)
        for row in rows
        if any(row.wrong[n] == 0 for n in ways[1:])
    }
    slowest = min(exact, key=lambda file: exact[file][0])
    console.print(
        f"ours: {sum(row.wrong['ours'] or 0 for row in rows)} wrong frames; the fastest other exact way is "
        f"{exact[slowest][1]} on {slowest}, at {exact[slowest][0]:.2f} of our time"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("SEFAR_SHARED_DATA", ROOT.parent / "shared" / "data")) / "videos"
    parser.add_argument("--videos", type=Path, default=shared, help="folder of videos (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=9, help="default: %(default)s")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--opencv-linear", action="store_true", help="let OpenCV scale without a filter")
    parser.add_argument("--cpu", action="store_true", help="measure CPU seconds, for a machine under other load")
    parser.add_argument("--no-made", action="store_true", help="leave out the generated videos")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    ways = all_ways()
    with tempfile.TemporaryDirectory() as folder:
        paths = sorted(p for p in options.videos.glob("*") if p.is_file()) if options.videos.is_dir() else []
        if not paths:
            console.print(f"[dim]no videos in {options.videos}; give a folder with --videos[/dim]")
        if not options.no_made:
            with console.status("making videos"):
                paths += made_videos(Path(folder))
        scaler = cv2.INTER_LINEAR if options.opencv_linear else cv2.INTER_AREA
        clock = time.process_time if options.cpu else time.perf_counter
        rows = [
            measure(path, ways, options.rounds, scaler, clock) for path in track(paths, "measuring", console=console)
        ]
    if not rows:
        raise SystemExit("nothing to measure")
    show(rows, list(ways), options.rounds)
    if options.json is not None:
        partial = options.json.with_name(options.json.name + ".part")
        partial.write_text(json.dumps([vars(row) for row in rows], indent=2) + "\n")
        partial.replace(options.json)


if __name__ == "__main__":
    main()
