from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_videos import encode
from stick_figures import figure, store

from sefar_serve.pose.fake import FakeEstimator
from sefar_training.data import JointCache, default_joints_folder
from sefar_training.export import export_untrained

LABELS = ("a", "b", "c", "d")


@pytest.fixture(scope="session")
def untrained_pose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of joints with the labels and elements of `untrained_model`."""
    return export_untrained(tmp_path_factory.mktemp("pose") / "pose.onnx", LABELS, stream="pose").path


@pytest.fixture(scope="session")
def paired_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of videos with stored joints, and the lists `val.csv` and `test.csv`."""
    root = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for name, count in (("val", 8), ("test", 4)):
        clips = [encode(root / f"{name}{n}.mp4", 12, 10 * n + len(name)) for n in range(count)]
        joints = [figure(rng, n % 2, 12) for n in range(count)]
        store(JointCache(default_joints_folder(root), FakeEstimator()), clips, joints)
        (root / f"{name}.csv").write_text("".join(f"{clip.name} {n % 4}\n" for n, clip in enumerate(clips)))
    return root
