"""A Ray cluster makes the same shards as this machine, even if one of its two nodes is killed during the run."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from coloured_persons import walking_person
from grey_clips import encode_grey_clip
from pose_models import POSE, fake_estimators, write_tiny_model
from ray.cluster_utils import Cluster

from sefar_features import open_features
from sefar_serve.engine.local import LocalEngine
from sefar_serve.engine.onnx import OnnxModel
from sefar_serve.extract.clips import ClipRef, ExtractError
from sefar_serve.extract.decoders import DecoderPool
from sefar_serve.extract.distributed import RayBackend
from sefar_serve.extract.local import LocalBackend
from sefar_serve.extract.rows import RowOptions
from sefar_serve.extract.run import Backend, Progress, extract
from sefar_serve.inputs import load_inputs

MODEL = Path(__file__).parents[2] / "model_repository/sefar_encoder/1/model.onnx"
CLIPS = 96

# Caused by Ray, which uses its own deprecated settings and leaves sockets and pipes to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[ClipRef]:
    folder = tmp_path_factory.mktemp("clips")
    for number in range(CLIPS):
        (folder / f"{number}.mp4").write_bytes(encode_grey_clip([(3 * number + n) % 256 for n in range(12)]))
    (folder / "5.mp4").write_bytes(b"not a video")
    return [ClipRef(str(number), str(folder / f"{number}.mp4")) for number in range(CLIPS)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    # By default Ray takes half a minute to call a killed node dead.
    health = {"health_check_period_ms": 500, "health_check_timeout_ms": 2000, "health_check_failure_threshold": 2}
    head = {"num_cpus": 2, "include_dashboard": False, "_system_config": health}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(num_cpus=2)
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def expected(clips: list[ClipRef], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Hashes of the shards made on this machine."""
    out = tmp_path_factory.mktemp("local")

    async def run() -> None:
        engine = LocalEngine(OnnxModel(MODEL))
        await engine.start()
        with DecoderPool(engine.metadata, workers=2, slots=16) as pool:
            sha256 = hashlib.sha256(MODEL.read_bytes()).hexdigest()
            await _extract(clips, out, LocalBackend(engine, pool, RowOptions(tokens=True), sha256=sha256))
        await engine.close()

    asyncio.run(run())
    return _hashes(out)


async def _extract(clips: list[ClipRef], out: Path, backend: Backend, **options: Any) -> Progress:
    return await extract(clips, out, backend, RowOptions(tokens=True), shard_rows=16, source="test", **options)


def _hashes(out: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(out.glob("part-*"))}


def _on_ray(clips: list[ClipRef], out: Path, address: str, on_progress: Callable[[Progress], None]) -> Progress:
    with RayBackend(MODEL, RowOptions(tokens=True), address=address, window=64) as backend:
        return asyncio.run(_extract(clips, out, backend, on_progress=on_progress))


def test_shards_equal_those_of_one_machine_even_if_a_node_is_killed(
    cluster: Cluster, clips: list[ClipRef], expected: dict[str, str], tmp_path: Path
) -> None:
    assert len(expected) == CLIPS / 16
    progress = _on_ray(clips, tmp_path / "whole", cluster.address, lambda _: None)
    assert (progress.done, progress.failed) == (CLIPS, 1)
    assert _hashes(tmp_path / "whole") == expected

    [killed] = [node for node in cluster.list_all_nodes() if not node.head]

    def kill(progress: Progress) -> None:
        if progress.done == 9:
            cluster.remove_node(killed, allow_graceful=False)

    progress = _on_ray(clips, tmp_path / "killed", cluster.address, kill)
    assert len(cluster.list_all_nodes()) == 1
    assert (progress.done, progress.failed) == (CLIPS, 1)
    assert _hashes(tmp_path / "killed") == expected


def test_joints_equal_those_of_this_machine(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "walking.mp4").write_bytes(walking_person())
    model = write_tiny_model(tmp_path / "model.onnx", POSE)
    clips = [ClipRef(str(number), str(tmp_path / "walking.mp4"), start=0.2 * number) for number in range(3)]
    options = RowOptions(poses=True)
    with RayBackend(model, options, address=cluster.address, estimators=fake_estimators(anonymous=True)) as backend:
        asyncio.run(extract(clips, tmp_path / "features", backend, options))
    features = open_features(tmp_path / "features")
    [joints] = features.poses()
    for number, found in enumerate(joints):
        expected = load_inputs(tmp_path / "walking.mp4", POSE, fake_estimators(), start=0.2 * number).poses
        assert expected is not None
        assert np.array_equal(found, expected.joints)
        assert np.array_equal(features.presence()[number], expected.presence)


def test_too_few_gpus_are_an_error(cluster: Cluster) -> None:
    backend = RayBackend(MODEL, RowOptions(), address=cluster.address, gpus=1)
    with pytest.raises(ExtractError, match=r"has fewer than 1 GPUs; lower --ray-gpus"), backend:
        pass
