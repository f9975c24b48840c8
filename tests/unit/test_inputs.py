"""From a video to the inputs of a model: the same as each stream alone, from one opened video, window by window."""

from __future__ import annotations

import numpy as np
import pytest
from coloured_persons import Person, scene, video, walk, walking_person
from pose_models import BOTH, POSE, fake_estimators

from sefar_serve import inputs
from sefar_serve.clip import ClipLimitError, ClipSpanError, NotAVideoError, Video, load_clip, load_windows
from sefar_serve.clip.decoder import Decoder
from sefar_serve.engine import FAKE_METADATA
from sefar_serve.inputs import ModelClip, load_input_windows, load_inputs
from sefar_serve.metadata import ModelMetadata
from sefar_serve.pose import Estimators, PoseMismatchError, load_poses
from sefar_serve.pose.fake import FakeEstimator

STREAMS = pytest.mark.parametrize("meta", [FAKE_METADATA, POSE, BOTH], ids=["rgb", "pose", "both"])


@pytest.fixture(scope="module")
def walking() -> bytes:
    return walking_person()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Video]:
    """The videos that are opened."""
    found: list[Video] = []

    def opening(*args: object, **options: object) -> Video:
        found.append(Video(*args, **options))  # type: ignore[arg-type]
        return found[-1]

    monkeypatch.setattr(inputs, "Video", opening)
    return found


def assert_same(one: ModelClip, other: ModelClip) -> None:
    assert one.inputs.keys() == other.inputs.keys()
    for name in one.inputs:
        np.testing.assert_array_equal(one.inputs[name], other.inputs[name])
    np.testing.assert_array_equal(one.indices, other.indices)
    assert (one.frame_count, one.corrupt, one.warnings) == (other.frame_count, other.corrupt, other.warnings)
    assert (one.poses is None) == (other.poses is None)
    if one.poses is not None and other.poses is not None:
        np.testing.assert_array_equal(one.poses.image, other.poses.image)


@STREAMS
def test_inputs_are_those_that_the_description_names(walking: bytes, meta: ModelMetadata) -> None:
    found = load_inputs(walking, meta, fake_estimators())
    assert {name: (values.dtype, values.shape) for name, values in found.inputs.items()} == meta.inputs
    assert (found.poses is not None) == meta.sees_joints
    assert (found.frame_count, found.width, found.height) == (32, 320, 240)


def test_frames_are_those_of_load_clip(walking: bytes) -> None:
    assert FAKE_METADATA.pixels is not None
    sizes = FAKE_METADATA.pixels._asdict()
    clip = load_clip(walking, FAKE_METADATA.sampling, **sizes, start=0.3, end=1.6)
    found = load_inputs(walking, FAKE_METADATA, fake_estimators(), start=0.3, end=1.6)
    np.testing.assert_array_equal(found.inputs["frames"], clip.frames)
    np.testing.assert_array_equal(found.times, clip.times)
    times, clips = load_windows(walking, FAKE_METADATA.sampling, **sizes, window=0.5, stride=0.25, max_windows=9)
    found_times, windows = load_input_windows(
        walking, FAKE_METADATA, fake_estimators(), windows=[0.5], stride=0.25, max_windows=9
    )
    assert found_times == times
    for window, clip in zip(windows, clips, strict=True):
        np.testing.assert_array_equal(window.inputs["frames"], clip.frames)


def test_joints_are_those_of_load_poses(walking: bytes) -> None:
    alone = load_poses(walking, FakeEstimator(), POSE.sampling, start=0.5)
    found = load_inputs(walking, POSE, fake_estimators(), start=0.5)
    np.testing.assert_array_equal(found.inputs["poses"], alone.poses.joints)
    np.testing.assert_array_equal(found.indices, alone.indices)


def test_both_opens_one_video_and_gives_what_each_gives_alone(opened: list[Video]) -> None:
    persons = (Person(walk((100, 120), (3, 0)), "red"), Person(walk((220, 120)), "blue", height=80))
    clip = video(scene(*persons))
    found = load_inputs(clip, BOTH, fake_estimators())
    assert len(opened) == 1
    np.testing.assert_array_equal(found.inputs["frames"], load_clip(clip, BOTH.sampling, resize=40, size=32).frames)
    alone = load_poses(clip, FakeEstimator(), BOTH.sampling, persons=2)
    np.testing.assert_array_equal(found.inputs["poses"], alone.poses.joints)
    assert alone.poses.detected.all()


@STREAMS
def test_windows_equal_the_same_spans_alone(walking: bytes, meta: ModelMetadata, opened: list[Video]) -> None:
    times, windows = load_input_windows(walking, meta, fake_estimators(), windows=[0.7], stride=0.4, max_windows=9)
    assert len(opened) == 1
    np.testing.assert_allclose(times, [(0.0, 0.7), (0.4, 1.1), (0.8, 1.5), (1.2, 1.9), (1.3, 2.0)])
    for (start, end), window in zip(times, windows, strict=True):
        assert_same(window, load_inputs(walking, meta, fake_estimators(), start=start, end=end))


@STREAMS
def test_windows_of_several_lengths_are_read_together(walking: bytes, meta: ModelMetadata, opened: list[Video]) -> None:
    times, windows = load_input_windows(walking, meta, fake_estimators(), windows=[1.5, 1.0], max_windows=9)
    assert len(opened) == 1
    assert times == [(0.0, 1.0), (0.0, 1.5), (0.5, 1.5), (0.5, 2.0), (1.0, 2.0)]
    for (start, end), window in zip(times, windows, strict=True):
        assert_same(window, load_inputs(walking, meta, fake_estimators(), start=start, end=end))


def test_frames_for_joints_are_read_window_by_window(walking: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    read = Video.read_shapes

    def counted(self: Video, indices: np.ndarray, *args: object, **options: object) -> object:
        counts.append(len(indices))
        return read(self, indices, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Video, "read_shapes", counted)
    load_input_windows(walking, POSE, fake_estimators(), windows=[0.5], stride=0.5, max_windows=4)
    assert counts == [8, 8, 8, 8]


def test_warnings_of_both_are_told_once(walking: bytes) -> None:
    dark = video(scene(Person(walk((100, 120), count=4)), count=4) // 6)
    found = load_inputs(dark, BOTH, fake_estimators())
    assert found.warnings == (
        "the clip has 4 frames, fewer than the 8 that are sampled; frames are repeated",
        "no person found; 8 of 8 frames are dark",
    )


def test_both_decodes_frames_once(walking: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted: list[set[int]] = []
    exact = Decoder.exact

    def counted(self: Decoder, numbers: set[int]) -> object:
        wanted.append(set(numbers))
        return exact(self, numbers)

    monkeypatch.setattr(Decoder, "exact", counted)
    found = load_inputs(walking, BOTH, fake_estimators())
    assert wanted == [set(found.indices.tolist())]


@STREAMS
@pytest.mark.parametrize("count", [1, 3])
def test_short_clips_repeat_frames_and_say_so(meta: ModelMetadata, count: int) -> None:
    short = video(scene(Person(walk((100, 120), count=count)), count=count))
    warning, *_ = load_inputs(short, meta, fake_estimators()).warnings
    assert warning.startswith(f"the clip has {count} frame")
    assert warning.endswith(", fewer than the 8 that are sampled; frames are repeated")
    assert ("frames," in warning) == (count > 1)


@STREAMS
def test_clips_have_a_digest_of_what_they_show(walking: bytes, meta: ModelMetadata) -> None:
    empty, other = (video(scene() // shade) for shade in (1, 2))
    clips = [load_inputs(clip, meta, fake_estimators()) for clip in (walking, empty, other, empty)]
    assert len({clip.digest for clip in clips}) == 3
    assert clips[1].digest == clips[3].digest
    assert [clip.without_person for clip in clips] == [False, *[meta.sees_joints] * 3]


def test_a_damaged_frame_is_replaced_in_both_alike(walking: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = Video._decode

    def without_9(self: Video, numbers: set[int], *sizes: int | None) -> object:
        decoded, _ = decode(self, numbers, *sizes)
        decoded.pictures.pop(10, None)
        return decoded, [n for n in range(32) if n != 10]

    monkeypatch.setattr(Video, "_decode", without_9)
    found = load_inputs(walking, BOTH, fake_estimators())
    assert 10 not in found.indices and 9 in found.indices
    assert found.warnings[0] == "frame 10 does not decode, used frame 9 instead"
    assert len(set(found.warnings)) == len(found.warnings)


@STREAMS
def test_errors_are_those_of_clips(walking: bytes, meta: ModelMetadata) -> None:
    with pytest.raises(NotAVideoError, match="holiday"):
        load_inputs(b"no video at all", meta, fake_estimators(), name="holiday")
    with pytest.raises(ClipSpanError):
        load_inputs(walking, meta, fake_estimators(), start=5)
    with pytest.raises(ClipLimitError, match="use a stride of"):
        load_input_windows(walking, meta, fake_estimators(), windows=[0.5], stride=0.1, max_windows=3)


def test_a_model_of_pictures_needs_no_estimator(walking: bytes) -> None:
    def fail() -> FakeEstimator:
        raise AssertionError("it was loaded")

    load_inputs(walking, FAKE_METADATA, Estimators(fail))


def test_joints_of_other_weights_are_refused(walking: bytes) -> None:
    other = POSE.model_copy(update={"estimator_sha256": "1" * 64})
    with pytest.raises(PoseMismatchError):
        load_inputs(walking, other, fake_estimators())
