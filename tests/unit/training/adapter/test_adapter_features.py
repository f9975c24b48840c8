from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_videos import encode

from sefar_serve.clip import load_clip
from sefar_serve.engine.onnx import OnnxModel
from sefar_serve.reliability import reliabilities
from sefar_training.adapter import features as module
from sefar_training.adapter.features import Encoder, Features, ViewSettings
from sefar_training.data import MissingClipsError


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clips")
    for i in range(5):
        encode(root / f"{i}.mp4", brightness=20 * i)
    (root / "list.csv").write_text("".join(f"{i}.mp4 {i % 4}\n" for i in range(5)))
    return root


def take(encoder: Encoder, clips: Path, views: int = 3, seed: int = 0) -> Features:
    return encoder.features(clips / "list.csv", clips, views=ViewSettings(views, seed=seed), progress=False)


def test_the_first_view_is_what_is_served_and_the_others_differ(untrained_model: Path, clips: Path) -> None:
    found = take(Encoder(untrained_model), clips)
    about = OnnxModel(untrained_model).metadata
    frames = np.stack(
        [load_clip(clips / f"{i}.mp4", about.sampling, resize=about.resize, size=about.size).frames for i in range(5)]
    )
    served = OnnxModel(untrained_model).run({"frames": frames})
    assert found.names == tuple(f"{i}.mp4" for i in range(5)) and found.labels.tolist() == [0, 1, 2, 3, 0]
    for array in ("embedding", "tokens", "logits"):
        assert np.allclose(getattr(found, array)[:, 0], getattr(served, array), atol=1e-5)
    assert np.allclose(found.mc_logits, served.mc_logits, atol=1e-5)
    assert found.views == 3
    assert not np.allclose(found.embedding[:, 1], found.embedding[:, 0])
    assert not np.allclose(found.embedding[:, 1], found.embedding[:, 2])


def test_views_depend_on_the_seed_alone_and_not_on_batches(
    untrained_model: Path, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = take(Encoder(untrained_model), clips)
    monkeypatch.setattr(module, "BATCH", 3)
    again = take(Encoder(untrained_model), clips)
    assert np.allclose(first.embedding, again.embedding, atol=1e-5)
    other = take(Encoder(untrained_model), clips, seed=1)
    assert np.allclose(first.embedding[:, 0], other.embedding[:, 0], atol=1e-5)
    assert not np.allclose(first.embedding[:, 1], other.embedding[:, 1])


def test_each_list_is_computed_once(
    untrained_model: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = take(Encoder(untrained_model, tmp_path), clips)
    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "_extract", lambda *_: pytest.fail("computed again"))
        kept = take(Encoder(untrained_model, tmp_path), clips)
    assert kept.names == first.names
    for array in ("labels", "embedding", "tokens", "logits", "mc_logits"):
        assert np.array_equal(getattr(kept, array), getattr(first, array))
    assert [file.suffix for file in tmp_path.iterdir()] == [".npz"]


def test_changed_clips_are_computed_again(untrained_model: Path, clips: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    root.mkdir()
    for file in clips.iterdir():
        (root / file.name).write_bytes(file.read_bytes())
    cache = tmp_path / "cache"
    encoder = Encoder(untrained_model, cache)
    take(encoder, root)
    take(encoder, root, views=2)
    assert len(list(cache.iterdir())) == 2
    encode(root / "0.mp4", brightness=100)
    take(encoder, root)
    (root / "list.csv").write_text("0.mp4 1\n")
    assert len(take(encoder, root)) == 1
    assert len(list(cache.iterdir())) == 4


def test_damaged_cache_is_computed_again(
    untrained_model: Path, clips: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = Encoder(untrained_model, tmp_path)
    first = take(encoder, clips)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    assert np.array_equal(take(encoder, clips).embedding, first.embedding)
    assert "is damaged" in caplog.text


def test_missing_clips_are_reported_before_anything_else(untrained_model: Path, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("nowhere.mp4 0\n")
    with pytest.raises(MissingClipsError, match=r"nowhere\.mp4"):
        Encoder(untrained_model).features(tmp_path / "list.csv", tmp_path, progress=False)


def test_pseudo_labels_and_blinded_features(untrained_model: Path, clips: Path) -> None:
    found = take(Encoder(untrained_model), clips, views=1)
    mc = np.zeros((5, 10, 4), np.float32)
    mc[:, :, 2] = 8
    sure = replace(found, mc_logits=mc)
    assert sure.pseudo_labels.tolist() == [2] * 5
    assert np.allclose(sure.eta, reliabilities(mc)) and (sure.eta > 0.9).all()
    blind = found.blinded()
    assert not blind.embedding.any() and not blind.tokens.any()
    assert np.array_equal(blind.logits, found.logits)
    both = Features.join([found.chosen(np.array([1, 3])), found.chosen(found.labels == 0)])
    assert both.names == ("1.mp4", "3.mp4", "0.mp4", "4.mp4")
    assert np.array_equal(both.tokens[2], found.tokens[0])
