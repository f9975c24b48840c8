"""Joints in extracted rows, in every format, and as the reader gives them back."""

from __future__ import annotations

import asyncio
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from coloured_persons import Person, scene, video, walk, walking_person
from pose_models import BOTH, POSE, fake_estimators
from stub_backend import StubBackend, clips_of

from sefar_features import FeaturesError, open_features
from sefar_serve.engine import FakeEngine
from sefar_serve.extract.clips import ClipRef
from sefar_serve.extract.decoders import DecoderPool
from sefar_serve.extract.local import LocalBackend
from sefar_serve.extract.rows import Format, RowOptions
from sefar_serve.extract.run import extract
from sefar_serve.inputs import load_inputs
from sefar_serve.lists import ClipKey
from sefar_serve.pose import JOINTS, NoJointsError, NotAnonymousError, Poses
from sefar_training.data import JointShards, StoredJointsError

LEAVING = Person([*walk((100, 120), count=8), *[None] * 8])
NAMES = ("leaving.mp4", "text.mp4", "walking.mp4")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    (folder / "leaving.mp4").write_bytes(video(scene(LEAVING)))
    (folder / "text.mp4").write_text("not a video")
    (folder / "walking.mp4").write_bytes(walking_person())
    return folder


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    with DecoderPool(BOTH, workers=1, slots=2, estimators=fake_estimators()) as pool:
        yield pool


def extracted(
    pool: DecoderPool,
    videos: Path,
    out: Path,
    options: RowOptions,
    clips: Sequence[ClipRef] | None = None,
    **more: bool,
) -> Path:
    async def run() -> None:
        engine = FakeEngine(BOTH)
        await engine.start()
        await extract(
            clips or [ClipRef(name, str(videos / name)) for name in NAMES],
            out,
            LocalBackend(engine, pool, options, at_once=2),
            options,
            **more,
        )

    asyncio.run(run())
    return out


def poses_of(file: Path) -> Poses:
    found = load_inputs(file, BOTH, fake_estimators()).poses
    assert found is not None
    return found


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("kind", ["parquet", "npy", "webdataset"])
def test_the_reader_gives_back_what_the_model_saw(
    pool: DecoderPool, videos: Path, tmp_path: Path, kind: Format, dtype: str
) -> None:
    options = RowOptions(tokens=True, poses=True, dtype=dtype, format=kind)
    features = open_features(extracted(pool, videos, tmp_path / "features", options))
    expected = [poses_of(videos / name) for name in ("leaving.mp4", "walking.mp4")]
    [joints] = features.poses()
    assert joints.dtype == dtype
    np.testing.assert_array_equal(joints, np.stack([one.joints for one in expected]).astype(dtype))
    np.testing.assert_array_equal(features.presence(), np.stack([one.presence for one in expected]))
    about = features.pose_description
    assert (about.shape, about.joints, about.estimator) == ((8, 2, 15, 4), JOINTS, "fake")
    assert about.estimator_sha256 == BOTH.estimator_sha256
    again = extracted(pool, videos, tmp_path / "features", options, retry_failed=True)
    np.testing.assert_array_equal(next(open_features(again).poses()), joints)


def test_training_reads_the_rows_of_spans(pool: DecoderPool, videos: Path, tmp_path: Path) -> None:
    file = videos / "walking.mp4"
    keys = [ClipKey(file), ClipKey(file, 0.0, 0.48), ClipKey(file, 0.4, None)]
    clips = [ClipRef("walking.mp4", str(file))]
    clips += [ClipRef(f"walking.mp4#t={n}", str(file), key.start, key.end) for n, key in enumerate(keys[1:])]
    folder = extracted(pool, videos, tmp_path / "features", RowOptions(poses=True), clips)
    found, errors = JointShards(folder, videos, 2, 8).read(keys)
    assert not errors
    for key in keys:
        expected = load_inputs(file, BOTH, fake_estimators(), start=key.start, end=key.end)
        assert expected.poses is not None
        in_time = expected.poses.joints[np.unique(expected.times, return_index=True)[1]]
        np.testing.assert_array_equal(found[key], in_time)
    with pytest.raises(StoredJointsError, match=r"no joints of 1 of 1 clips: .*walking\.mp4#t=0\.1,0\.2"):
        JointShards(folder, videos, 2, 8).read([ClipKey(file, 0.1, 0.2)])


def test_the_column_is_a_fixed_size_list_with_its_shape(pool: DecoderPool, videos: Path, tmp_path: Path) -> None:
    folder = extracted(pool, videos, tmp_path / "features", RowOptions(poses=True))
    table = pq.read_table(folder / "part-000000.parquet")
    field = table.schema.field("poses")
    assert json.loads(field.metadata[b"shape"]) == [8, 2, 15, 4]
    assert field.type.list_size == 8
    assert table["poses"].null_count == table["presence"].null_count == 1  # the text


def test_samples_hold_joints_and_no_pixels(pool: DecoderPool, videos: Path, tmp_path: Path) -> None:
    folder = extracted(pool, videos, tmp_path / "features", RowOptions(poses=True, format="webdataset"))
    with tarfile.open(folder / "part-000000.tar") as samples:
        names = {member.name.partition(".")[2] for member in samples}
        about = json.load(samples.extractfile("part-000000-00002.json"))
    assert names == {"json", "embedding.npy", "poses.npy"}
    np.testing.assert_allclose(about["presence"], poses_of(videos / "walking.mp4").presence)


def test_rows_without_poses_have_none(pool: DecoderPool, videos: Path, tmp_path: Path) -> None:
    features = open_features(extracted(pool, videos, tmp_path / "features", RowOptions()))
    assert not {"poses", "presence"} & set(features.columns)
    with pytest.raises(FeaturesError, match="no poses; extract them with `sefar extract --poses`"):
        features.poses()


def test_a_model_of_pictures_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(NoJointsError, match="the model fake sees no joints; leave out `poses`"):
        asyncio.run(extract(clips_of("ab"), tmp_path / "out", StubBackend(), RowOptions(poses=True)))
    assert not (tmp_path / "out").exists()


def test_anonymous_decode_processes_refuse_pictures() -> None:
    with pytest.raises(NotAnonymousError, match="the model both sees pictures and joints"):
        DecoderPool(BOTH, workers=1, slots=1, estimators=fake_estimators(anonymous=True))
    with DecoderPool(POSE, workers=1, slots=1, estimators=fake_estimators(anonymous=True)):
        pass
