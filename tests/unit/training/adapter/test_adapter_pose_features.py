"""Features of encoders that see joints, for adapters: the first view is the one served, the others are variations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from coloured_persons import Person, scene, video, walk, walking_person
from pose_models import BOTH, POSE, fake_estimators, write_tiny_model

from sefar_serve.engine.base import batch_of
from sefar_serve.engine.onnx import OnnxModel
from sefar_serve.inputs import load_inputs
from sefar_serve.metadata import ModelMetadata
from sefar_serve.pose import MIRROR, PoseMismatchError
from sefar_training.adapter.features import Encoder, ViewsError, ViewSettings
from sefar_training.data import read_list


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clips")
    (root / "walking.mp4").write_bytes(walking_person())
    (root / "list.csv").write_text("walking.mp4 1\n")
    return root


def encoder(root: Path, metadata: ModelMetadata) -> Encoder:
    return Encoder(write_tiny_model(root / "model.onnx", metadata), estimators=fake_estimators())


@pytest.mark.parametrize("metadata", [POSE, BOTH], ids=["pose", "both"])
def test_the_first_view_is_what_is_served(clips: Path, tmp_path: Path, metadata: ModelMetadata) -> None:
    found = encoder(tmp_path, metadata).features(clips / "list.csv", clips, progress=False)
    inputs = load_inputs(clips / "walking.mp4", metadata, fake_estimators()).inputs
    served = OnnxModel(tmp_path / "model.onnx", device="cpu").run(batch_of([inputs]))
    np.testing.assert_allclose(found.embedding[:, 0], served.embedding, rtol=1e-5)
    np.testing.assert_allclose(found.mc_logits, served.mc_logits, rtol=1e-5)


def test_other_views_see_other_frames(tmp_path: Path) -> None:
    blinking = Person([place if i % 3 else None for i, place in enumerate(walk((100, 120), count=32))])
    (tmp_path / "blinking.mp4").write_bytes(video(scene(blinking, count=32)))
    (tmp_path / "list.csv").write_text("blinking.mp4 1\n")
    found, again = (
        encoder(tmp_path, POSE).features(tmp_path / "list.csv", tmp_path, views=ViewSettings(6), progress=False)
        for _ in range(2)
    )
    assert found.views == 6
    np.testing.assert_array_equal(found.embedding, again.embedding)
    assert len(np.unique(found.embedding[0, :, 0])) > 1


def test_other_views_may_be_mirrored(clips: Path, tmp_path: Path) -> None:
    [entry] = read_list(clips / "list.csv", clips)
    first, mirrored = (look["poses"] for look in encoder(tmp_path, POSE)._looks(entry, 0, ViewSettings(2, flip=1.0)))
    # The walking person has the same pose in every frame.
    np.testing.assert_allclose(mirrored, first[:, :, MIRROR] * (-1, 1, 1, 1), atol=0.05)
    assert mirrored.dtype == np.float32


def test_several_views_of_pictures_and_joints_are_refused(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(ViewsError, match=r"set `data\.views` to 1"):
        encoder(tmp_path, BOTH).features(clips / "list.csv", clips, views=ViewSettings(2), progress=False)


def test_an_encoder_of_other_weights_is_refused(clips: Path, tmp_path: Path) -> None:
    other = POSE.model_copy(update={"estimator_sha256": "1" * 64})
    with pytest.raises(PoseMismatchError, match="trained with the pose estimator fake"):
        encoder(tmp_path, other).features(clips / "list.csv", clips, progress=False)
