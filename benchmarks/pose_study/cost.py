"""What finding joints costs: calls and CPU time of the detector and of the landmark model, 16 frames a clip."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rich.progress import track

from sefar_serve.pose import Detection, Landmarks, Picture, Region, load_poses
from sefar_serve.pose.litert import LiteRTEstimator


class TimedEstimator(LiteRTEstimator):
    """Counts calls and CPU seconds of the detector and of the landmark model."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = [0, 0]
        self.seconds = [0.0, 0.0]

    def detect(self, picture: Picture, within: Region) -> list[Detection]:
        """As the base class does."""
        started = time.process_time()
        found = super().detect(picture, within)
        self._count(0, started)
        return found

    def landmarks(self, picture: Picture, region: Region) -> Landmarks:
        """As the base class does."""
        started = time.process_time()
        found = super().landmarks(picture, region)
        self._count(1, started)
        return found

    def _count(self, part: int, started: float) -> None:
        self.calls[part] += 1
        self.seconds[part] += time.process_time() - started


def cost_table(files: Sequence[Path]) -> str:
    """Find the joints of clips, not stored ones, and return what it costs as a Markdown table."""
    estimator = TimedEstimator()
    load_poses(files[0], estimator)  # loads the models
    estimator.calls, estimator.seconds = [0, 0], [0.0, 0.0]
    started = time.process_time()
    for file in track(files, "finding joints"):
        load_poses(file, estimator)
    total = time.process_time() - started
    clips = len(files)
    rest = total - sum(estimator.seconds)
    parts = zip(("detector", "landmarks"), estimator.calls, estimator.seconds, strict=True)
    lines = [f"| {clips} clips, 16 frames each | calls a clip | CPU ms a call | CPU ms a clip |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {calls / clips:.1f} | {1e3 * seconds / max(calls, 1):.0f} | {1e3 * seconds / clips:.0f} |"
        for name, calls, seconds in parts
    ]
    lines += [f"| decoding and the rest | | | {1e3 * rest / clips:.0f} |", f"| all | | | {1e3 * total / clips:.0f} |"]
    return "\n".join(lines)
