"""Default features for the examples: renders new SynthGym clips and runs `sefar extract` on them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from rich.progress import track

from sefar_features import Features, FeaturesError, open_features
from sefar_training.synthgym import CLASSES, clip_seed, encode_clip, render_clip

CLIPS = Path("demo/clips")
FEATURES = Path("demo/features")
PER_CLASS = 6
SEED = 2026


def features_from(folder: str | None) -> Features:
    """Open the features of a folder. None opens those of `demo/features`, which are extracted if necessary.

    Raises:
        SystemExit: they cannot be opened. The message says why in one line.
    """
    if folder is not None:
        return _opened(Path(folder))
    if not FEATURES.is_dir():
        CLIPS.mkdir(parents=True, exist_ok=True)
        for action in track(CLASSES, "rendering clips"):
            for number in range(PER_CLASS):
                clip = render_clip(action, clip_seed(SEED, "demo", action, number), "standard")
                encode_clip(clip, CLIPS / f"{action.index:02d}_{number}.mp4")
    # Resumes if it was stopped, and does nothing the second time.
    subprocess.run([sys.executable, "-m", "sefar_serve", "extract", str(CLIPS), "--out", str(FEATURES)], check=True)
    return _opened(FEATURES)


def _opened(folder: Path) -> Features:
    try:
        return open_features(folder)
    except FeaturesError as error:
        raise SystemExit(str(error)) from error


def true_class(clip_id: str) -> str:
    """The class that a clip was rendered as; its id starts with the number of the class."""
    return CLASSES[int(clip_id[:2])].name
