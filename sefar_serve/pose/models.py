"""The two model files: out of MediaPipe's wheel into a cache folder.

The wheel is only unpacked. It pins numpy below 2 and has no build for new Pythons, but holds the same models whatever
the platform; later ones hold no models.
"""

from __future__ import annotations

import hashlib
import os
import shlex
from pathlib import Path

from sefar_serve.pose.errors import PoseSetupError
from sefar_serve.wheels import Progress, Wheel, WheelFile, cache_home, ensure_files, has_files

DETECTOR = WheelFile(
    "pose_detection.tflite",
    "mediapipe/modules/pose_detection/pose_detection.tflite",
    "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
)
LANDMARK = WheelFile(
    "pose_landmark_full.tflite",
    "mediapipe/modules/pose_landmark/pose_landmark_full.tflite",
    "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
)
TARGET = ("--platform", "manylinux_2_28_x86_64", "--python-version", "3.11", "--implementation", "cp", "--abi", "cp311")
"""Which of the package's wheels is taken, on any machine."""
MEDIAPIPE = Wheel(
    package="mediapipe==0.10.21",
    files=(DETECTOR, LANDMARK),
    licence="mediapipe-0.10.21.dist-info/LICENSE",
    size=35_622_638,
    what="pose models",
    setup="sefar pose setup",
    elsewhere="Or set SEFAR_POSE_HOME to a folder that holds the models, or in which they can be written",
    target=TARGET,
    error=PoseSetupError,
)
ESTIMATOR_SHA256 = hashlib.sha256("".join(file.sha256 for file in MEDIAPIPE.files).encode()).hexdigest()
"""One hash for both files."""


def default_home() -> Path:
    """Where the models are unless told otherwise: SEFAR_POSE_HOME, else the user's cache folder."""
    return _home_of_environment() or _home_in_cache()


def _home_of_environment() -> Path | None:
    home = os.environ.get("SEFAR_POSE_HOME")
    return Path(home) if home else None


def _home_in_cache() -> Path:
    return cache_home() / f"pose-{MEDIAPIPE.package.rpartition('=')[2]}"


def has_models(home: Path | None = None) -> bool:
    """Whether the folder holds both models, undamaged.

    Raises:
        PoseSetupError: a file is there, but is not the one that this version was built for.
    """
    return has_files(MEDIAPIPE, home or default_home())


def find_models(home: Path | None = None, progress: Progress | None = None) -> Path:
    """Find the models: in the folder that was named, else in the user's cache folder, after a download if needed.

    Nothing is downloaded into a folder that was named, because its name may be wrong.

    Args:
        home: their folder; None: SEFAR_POSE_HOME, or else the cache folder.
        progress: see `ensure_models`.

    Returns:
        The folder that holds them.

    Raises:
        PoseSetupError: the named folder does not hold them, or `ensure_models` fails.
    """
    named = home or _home_of_environment()
    if named is None:
        return ensure_models(_home_in_cache(), progress)
    _check_folder(named)
    if not has_models(named):
        state = "holds no pose models" if named.is_dir() else "does not exist"
        raise PoseSetupError(
            f"the folder of the pose models, {named}, {state}; it must hold "
            f"{' and '.join(file.name for file in MEDIAPIPE.files)}. Set SEFAR_POSE_HOME or `pose_home` to the folder "
            "that holds them, unset it to use the default one, or download them there: sefar pose setup --home "
            f"{shlex.quote(str(named))}"
        )
    return named


def ensure_models(home: Path | None = None, progress: Progress | None = None, wheel: Path | None = None) -> Path:
    """Get the models, unless they are there. Processes that start together download them once.

    Args:
        home: their folder; None: `default_home`.
        progress: told of the download, from this thread.
        wheel: MediaPipe's wheel as a local file, for machines without a package index.

    Returns:
        The folder that holds them, with their licence beside them.

    Raises:
        PoseSetupError: they cannot be downloaded or written, or a file is not what was expected.
    """
    home = home or default_home()
    _check_folder(home)
    ensure_files(MEDIAPIPE, home, progress, wheel)
    return home


def _check_folder(home: Path) -> None:
    if home.exists() and not home.is_dir():
        raise PoseSetupError(
            f"{home} is a file, not the folder of the pose models; set SEFAR_POSE_HOME, `pose_home` or --home to "
            "a folder"
        )
