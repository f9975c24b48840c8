from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from sefar_serve.api.store import ClipNotFoundError, ClipStore
from sefar_serve.engine import FAKE_METADATA, Outputs, Prediction
from sefar_serve.inputs import ModelClip
from sefar_serve.recognition import Window


def window(seed: int, frames: tuple[int, ...] = tuple(range(8)), digest: str = "") -> Window:
    rng = np.random.default_rng(seed)
    outputs = Outputs(
        logits=rng.normal(size=3).astype(np.float32),
        embedding=rng.normal(size=8).astype(np.float32),
        tokens=rng.normal(size=(3, 4)).astype(np.float32),
        mc_logits=rng.normal(size=(10, 3)).astype(np.float32),
    )
    clip = ModelClip(
        inputs={"frames": np.zeros((8, 32, 32, 3), np.uint8)},
        indices=np.array(frames),
        times=np.arange(8.0),
        frame_count=24,
        duration=1.0,
        width=32,
        height=32,
        stream_index=0,
        corrupt=(),
        warnings=(),
        digest=digest,
    )
    return Window(0.0, 1.0, clip, Prediction(outputs, "1", 0.0, 0.0, 1))


def test_a_stored_clip_has_no_frames() -> None:
    store = ClipStore(2)
    put = store.put("a.mp4", window(0), FAKE_METADATA)
    got = store.get(put.clip_id)
    assert got.clip_id.startswith("clip_")
    np.testing.assert_array_equal(got.features.embedding, window(0).prediction.outputs.embedding)
    np.testing.assert_array_equal(got.features.tokens, window(0).prediction.outputs.tokens)
    assert not got.window.clip.inputs
    assert got.verdict.labels == FAKE_METADATA.labels
    assert 0 < got.verdict.reliability <= 1


def test_the_pixels_of_a_stored_clip_are_freed() -> None:
    store = ClipStore(2)
    shown = window(0)
    pixels = weakref.ref(shown.clip.inputs["frames"])
    clip_id = store.put("a.mp4", shown, FAKE_METADATA).clip_id
    del shown
    gc.collect()
    assert pixels() is None
    assert store.get(clip_id).window.clip.indices.tolist() == list(range(8))


def test_equal_clips_have_equal_ids_and_different_clips_different_ids() -> None:
    store = ClipStore(8)
    one = store.put("a.mp4", window(0), FAKE_METADATA).clip_id
    assert store.put("b.mp4", window(0), FAKE_METADATA).clip_id == one
    others = {
        store.put("a.mp4", window(1), FAKE_METADATA).clip_id,
        store.put("a.mp4", window(0, tuple(range(1, 9))), FAKE_METADATA).clip_id,
        store.put("a.mp4", window(0), FAKE_METADATA.model_copy(update={"name": "other"})).clip_id,
        # The same for the model, such as nobody, but another video.
        store.put("a.mp4", window(0, digest="1"), FAKE_METADATA).clip_id,
    }
    assert len({one, *others}) == 5


def test_the_least_recently_used_clip_is_dropped_first() -> None:
    store = ClipStore(2)
    a, b = (store.put("x", window(seed), FAKE_METADATA).clip_id for seed in (0, 1))
    store.get(a)
    c = store.put("x", window(2), FAKE_METADATA).clip_id
    assert store.get(a).clip_id == a
    assert store.get(c).clip_id == c
    with pytest.raises(ClipNotFoundError, match="send the video again"):
        store.get(b)


def test_a_store_of_size_0_keeps_nothing() -> None:
    store = ClipStore(0)
    with pytest.raises(ClipNotFoundError):
        store.get(store.put("x", window(0), FAKE_METADATA).clip_id)
