"""Time from a video file to its label with a model that sees joints, by part, on one core.

Each clip goes through the parts that serving has: opening and decoding, the detector, the landmark model, following
persons (all else between frames and joints), the classifier. Everything has one thread. Wall time includes waiting for
the core if other programs run; CPU time does not.

Without --model an untrained one of the variant `pose-tiny` answers: its time does not depend on its weights.
Run: python benchmarks/pose_latency.py CLIP_OR_FOLDER... [--clips N] [--each] [--model FILE]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when libraries are loaded

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from sefar_serve.clip import ClipError, Video, sample_indices
from sefar_serve.clip.load import segments_of
from sefar_serve.clip.video import Frames
from sefar_serve.engine.onnx import OnnxModel
from sefar_serve.errors import SefarError
from sefar_serve.extract.source import VIDEO_SUFFIXES
from sefar_serve.pose import Detection, Estimators, Landmarks, Picture, Region
from sefar_serve.pose.litert import LiteRTEstimator
from sefar_serve.pose.load import find_poses, pose_shape

T = TypeVar("T")
Times = NDArray[np.float64]
"""Wall and CPU seconds, (2,)."""

DECODING, DETECTOR, LANDMARKS, FOLLOWING, CLASSIFIER, ALL = PARTS = (
    "opening and decoding",
    "detector",
    "landmarks",
    "following persons",
    "classifier",
    "all",
)


class Watch:
    """The times of the parts of one clip, and how often each ran."""

    def __init__(self) -> None:
        self.times: dict[str, Times] = {part: np.zeros(2) for part in PARTS}
        self.calls: Counter[str] = Counter()

    def time(self, part: str, work: Callable[[], T]) -> T:
        """Run some work and add its time to a part."""
        before = _now()
        done = work()
        self.times[part] += _now() - before
        self.calls[part] += 1
        return done


def _now() -> Times:
    return np.array([time.perf_counter(), time.process_time()])


class TimedEstimator(LiteRTEstimator):
    """Tells a watch the time of each of the two models."""

    watch = Watch()

    def detect(self, picture: Picture, within: Region) -> list[Detection]:
        """As the base class does."""
        return self.watch.time(DETECTOR, lambda: super(TimedEstimator, self).detect(picture, within))

    def landmarks(self, picture: Picture, region: Region) -> Landmarks:
        """As the base class does."""
        return self.watch.time(LANDMARKS, lambda: super(TimedEstimator, self).landmarks(picture, region))


def measure(file: Path, model: OnnxModel, estimator: TimedEstimator) -> Watch:
    """The time from a file to its label.

    Raises:
        ClipError: the file is not a usable video.
    """
    watch = estimator.watch = Watch()
    watch.time(ALL, lambda: _answer(file, model, estimator, watch))
    # The models ran while persons were followed.
    watch.times[FOLLOWING] -= watch.times[DETECTOR] + watch.times[LANDMARKS]
    return watch


def _answer(file: Path, model: OnnxModel, estimator: TimedEstimator, watch: Watch) -> None:
    """As `sefar_serve.inputs.load_inputs` and the model do it."""
    meta = model.metadata
    with watch.time(DECODING, lambda: Video(file, threads=1)) as video:
        span = (0, video.frame_count)
        chosen = sample_indices(video.frame_count, meta.sampling)
        ordered, order = np.unique(chosen, return_inverse=True)

        def read() -> Frames:
            return video.read_shapes(ordered, [pose_shape(video)], within=segments_of(ordered, span, len(chosen)))[0]

        frames = watch.time(DECODING, read)
        found = watch.time(FOLLOWING, lambda: find_poses(video, span, frames, order, estimator, persons=meta.persons))
    watch.time(CLASSIFIER, lambda: model.run({"poses": found.poses.joints[None]}))


def overview(watches: Sequence[Watch]) -> str:
    """All clips as a Markdown table: milliseconds a clip."""
    lines = [
        "| part | calls a clip | CPU, median | CPU, 90 % | wall, median | wall, 90 % |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for part in PARTS:
        wall, cpu = 1e3 * np.array([watch.times[part] for watch in watches]).T
        figures = [f"{np.percentile(times, share):.1f}" for times in (cpu, wall) for share in (50, 90)]
        has_calls = part in (DETECTOR, LANDMARKS)
        calls = f"{np.mean([watch.calls[part] for watch in watches]):.1f}" if has_calls else ""
        lines.append(f"| {part} | {calls} | {' | '.join(figures)} |")
    return "\n".join(lines)


def by_clip(files: Sequence[Path], watches: Sequence[Watch]) -> str:
    """A Markdown table with a row for each clip: milliseconds of CPU time."""
    lines = [f"| clip | {' | '.join(PARTS)} |", f"|---|{'---:|' * len(PARTS)}"]
    for file, watch in zip(files, watches, strict=True):
        lines.append(f"| {file.name} | {' | '.join(f'{1e3 * watch.times[part][1]:.1f}' for part in PARTS)} |")
    return "\n".join(lines)


def clips_in(places: Sequence[Path], most: int | None) -> list[Path]:
    """The videos in these places, or so many of them, evenly spread."""
    found: list[Path] = []
    for place in places:
        inside = sorted(place.rglob("*")) if place.is_dir() else [place]
        found += [file for file in inside if file.suffix.lower() in VIDEO_SUFFIXES or file == place]
    if not found:
        sys.exit(f"error: no videos in {', '.join(map(str, places))}")
    count = min(most or len(found), len(found))
    return [found[number * len(found) // count] for number in range(count)]


@contextmanager
def model_of(file: Path | None) -> Iterator[OnnxModel]:
    """The model, or an untrained one; one thread."""
    if file is not None:
        yield OnnxModel(file, device="cpu", threads=1)
        return
    from sefar_training.export import export_untrained

    estimator = (LiteRTEstimator.name, LiteRTEstimator.sha256)
    labels = [f"class {number}" for number in range(10)]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model.onnx"
        export_untrained(out, labels, sample_frames=(4, 4, 8), stream="pose", estimator=estimator)
        yield OnnxModel(out, device="cpu", threads=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("places", nargs="+", type=Path, metavar="CLIP_OR_FOLDER")
    parser.add_argument("--clips", type=int, metavar="N", help="only so many of them, evenly spread")
    parser.add_argument("--each", action="store_true", help="also print a row for each clip")
    parser.add_argument("--model", type=Path, metavar="FILE", help="ONNX file of a model whose stream is pose")
    arguments = parser.parse_args()
    try:
        with model_of(arguments.model) as model:
            estimator = TimedEstimator()
            Estimators(lambda: estimator, anonymous=True).of(model.metadata)  # only joints, and of these weights
            model.warm_up()
            files, watches = [], []
            clips = clips_in(arguments.places, arguments.clips)
            measure(clips[0], model, estimator)  # loads the estimator's models
            for file in track(clips, "measuring clips", transient=True):
                try:
                    watches.append(measure(file, model, estimator))
                    files.append(file)
                except ClipError as error:
                    print(f"skipped: {error}", file=sys.stderr)
    except SefarError as error:
        sys.exit(f"error: {error}")
    load = os.getloadavg()[0]
    print(f"{len(watches)} clips, {model.metadata.sampling.frames} frames each; milliseconds a clip; load {load:.1f}\n")
    print(overview(watches))
    if arguments.each:
        print(f"\n{by_clip(files, watches)}")


if __name__ == "__main__":
    main()
