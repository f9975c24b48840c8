"""The folder of features: its contents in each format, and what it rejects."""

from __future__ import annotations

import errno
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from stub_backend import clips_of, row_of

from sefar_serve.engine.fake import FAKE_METADATA
from sefar_serve.extract.clips import ExtractError, MixedModelError, OutputBusyError, OutputUnwritableError
from sefar_serve.extract.rows import ClipRow, RowOptions, failed_row
from sefar_serve.extract.shards import open_shards

GOOD, OTHER = (row_of(clip) for clip in clips_of(["a/good.mp4", "a/good_mp4"]))
BAD = failed_row(clips_of(["bad"])[0], "empty_video", "videos/bad is empty", FAKE_METADATA)
RETRIED = row_of(BAD.clip)


def _write(folder: Path, options: RowOptions, *rows: ClipRow) -> None:
    with open_shards(folder, FAKE_METADATA, "a", options) as shards:
        shards.commit(0, rows)
        shards.describe(clips=len(rows), shards=1)


def _replace(folder: Path, options: RowOptions, *rows: ClipRow) -> None:
    with open_shards(folder, FAKE_METADATA, "a", options) as shards:
        shards.replace(0, rows)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_parquet_shard_has_all_values_of_a_row(tmp_path: Path, dtype: str) -> None:
    options = RowOptions(tokens=True, dtype=dtype)
    _write(tmp_path, options, GOOD, BAD)
    table = pq.read_table(tmp_path / "part-000000.parquet")
    good, bad = table.to_pylist()
    np.testing.assert_array_equal(np.array(good["embedding"], dtype), GOOD.embedding.astype(dtype))
    np.testing.assert_array_equal(np.array(good["tokens"], dtype), GOOD.tokens.astype(dtype))
    assert (good["id"], good["path"], good["labels"], good["scores"], good["reliability"], good["frame_times"]) == (
        "a/good.mp4",
        "videos/a/good.mp4",
        list(GOOD.labels),
        list(GOOD.scores),
        0.5,
        [0.0, 0.5],
    )
    assert (good["model"], good["version"], good["warnings"], good["error"]) == ("fake", "0", ["a warning"], None)
    there = {name for name, value in bad.items() if value is not None}
    assert there == {"id", "path", "model", "version", "error_code", "error"}


@pytest.mark.parametrize("form", ["parquet", "npy", "webdataset"])
def test_the_same_rows_give_the_same_bytes(tmp_path: Path, form: str) -> None:
    for name in ("one", "two"):
        _write(tmp_path / name, RowOptions(tokens=True, format=form), GOOD, BAD, OTHER)
    files = sorted(file.name for file in (tmp_path / "one").glob("part-*"))
    assert len(files) == {"parquet": 1, "npy": 3, "webdataset": 2}[form]
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_arrays_have_a_line_for_each_row_with_nan_for_failed_clips(tmp_path: Path) -> None:
    options = RowOptions(tokens=True, format="npy")
    _write(tmp_path, options, GOOD, BAD, OTHER)
    embeddings = np.load(tmp_path / "part-000000.embedding.npy")
    assert "embedding" not in pq.read_schema(tmp_path / "part-000000.parquet").names
    np.testing.assert_array_equal(embeddings[[0, 2]], [GOOD.embedding, OTHER.embedding])
    assert np.isnan(embeddings[1]).all()
    _replace(tmp_path, options, RETRIED)
    embeddings = np.load(tmp_path / "part-000000.embedding.npy")
    np.testing.assert_array_equal(embeddings, [GOOD.embedding, RETRIED.embedding, OTHER.embedding])
    tokens = np.load(tmp_path / "part-000000.tokens.npy")
    np.testing.assert_array_equal(tokens, [GOOD.tokens, RETRIED.tokens, OTHER.tokens])


def test_a_tar_has_a_sample_for_each_good_row(tmp_path: Path) -> None:
    options = RowOptions(format="webdataset")

    def found() -> dict[str, str]:
        with tarfile.open(tmp_path / "part-000000.tar") as tar:
            names = tar.getnames()
            assert len(names) == len(set(names))
            about = [name for name in names if name.endswith(".json")]
            return {name.removesuffix(".json"): json.loads(tar.extractfile(name).read())["id"] for name in about}

    # Ids that differ only in a dot or a slash stay distinct.
    _write(tmp_path, options, GOOD, BAD, OTHER)
    assert found() == {"part-000000-00000": "a/good.mp4", "part-000000-00002": "a/good_mp4"}
    for _ in range(2):  # as after a kill between the tar and its Parquet file
        _replace(tmp_path, options, RETRIED)
        assert found()["part-000000-00001"] == "bad"
        assert len(found()) == 3


def test_a_new_row_replaces_the_failed_one(tmp_path: Path) -> None:
    _write(tmp_path, RowOptions(), GOOD, BAD, OTHER)
    _replace(tmp_path, RowOptions(), RETRIED)
    _write(tmp_path / "at once", RowOptions(), GOOD, RETRIED, OTHER)
    retried, at_once = (pq.read_table(folder / "part-000000.parquet") for folder in (tmp_path, tmp_path / "at once"))
    assert retried.equals(at_once)


@pytest.mark.parametrize(
    ("meta", "sha256", "options", "says"),
    [
        (FAKE_METADATA.model_copy(update={"version": "2"}), "a", RowOptions(), "version 0, with version '0', not '2'"),
        (FAKE_METADATA, "b", RowOptions(), "with sha256 'a', not 'b'"),
        (FAKE_METADATA.model_copy(update={"labels": ("x", "y", "z")}), "a", RowOptions(), "with other labels"),
        (FAKE_METADATA, "a", RowOptions(dtype="float16"), "with dtype 'float32', not 'float16'"),
        (FAKE_METADATA, "a", RowOptions(format="npy"), "with format 'parquet', not 'npy'"),
    ],
)
def test_another_model_or_setting_is_an_error(
    tmp_path: Path, meta: object, sha256: str, options: RowOptions, says: str
) -> None:
    _write(tmp_path, RowOptions(), GOOD)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(MixedModelError, match=says), open_shards(tmp_path, meta, sha256, options):
        pass
    assert before == {file.name: file.read_bytes() for file in tmp_path.iterdir()}


def test_without_a_model_hash_only_the_rest_is_compared(tmp_path: Path) -> None:
    _write(tmp_path, RowOptions(), GOOD)
    with open_shards(tmp_path, FAKE_METADATA, None, RowOptions()) as shards:
        assert shards.numbers() == [0]


def test_only_one_run_at_a_time(tmp_path: Path) -> None:
    with (
        open_shards(tmp_path, FAKE_METADATA, "a", RowOptions()),
        pytest.raises(OutputBusyError, match=f"another run is writing to {tmp_path}"),
        open_shards(tmp_path, FAKE_METADATA, "a", RowOptions()),
    ):
        pass
    with open_shards(tmp_path, FAKE_METADATA, "a", RowOptions()):
        pass


def test_folders_without_features_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "part-000000.parquet").touch()
    (tmp_path / "manifest").mkdir()
    (tmp_path / "manifest" / "_manifest.json").write_text("{}")
    _write(tmp_path / "newer", RowOptions(), GOOD)
    about = tmp_path / "newer" / "_manifest.json"
    about.write_text(about.read_text().replace('"format": 1', '"format": 2'))
    for name, says in [
        ("file", "is a file; --out takes a folder"),
        ("foreign", "holds shards but no _manifest.json"),
        ("manifest", r"is not a manifest of features that this version reads \(model: Field required\)"),
        ("newer", r"_manifest.json is not a manifest .* this version reads \(format: Input should be 1\)"),
    ]:
        with pytest.raises(ExtractError, match=says), open_shards(tmp_path / name, FAKE_METADATA, "a", RowOptions()):
            pass


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    _write(tmp_path, RowOptions(), GOOD)
    (tmp_path / "part-000000.parquet").write_bytes(b"damaged")
    with (
        open_shards(tmp_path, FAKE_METADATA, "a", RowOptions()) as shards,
        pytest.raises(
            ExtractError, match=r"part-000000.parquet cannot be read as a shard .* move it away so that the next"
        ),
    ):
        shards.rows(0)


@pytest.mark.parametrize(("form", "name"), [("npy", "part-000000.embedding.npy"), ("webdataset", "part-000000.tar")])
def test_missing_or_truncated_vector_files_are_named(tmp_path: Path, form: str, name: str) -> None:
    options = RowOptions(format=form)
    _write(tmp_path, options, GOOD, BAD, OTHER)
    file, parquet = tmp_path / name, (tmp_path / "part-000000.parquet").read_bytes()
    whole = file.read_bytes()
    for length in (0, 130, min(1500, len(whole) - 8)):
        file.write_bytes(whole[:length])
        with pytest.raises(ExtractError, match=f"{name} does not match part-000000.parquet; move part-000000.parquet"):
            _replace(tmp_path, options, RETRIED)
        assert (file.stat().st_size, (tmp_path / "part-000000.parquet").read_bytes()) == (length, parquet)
    file.unlink()
    with (
        open_shards(tmp_path, FAKE_METADATA, "a", options) as shards,
        pytest.raises(ExtractError, match=f"{name} is missing; copy it back, or delete part-000000.parquet"),
    ):
        shards.rows(0)


def test_retried_samples_are_in_the_order_of_their_rows(tmp_path: Path) -> None:
    options = RowOptions(format="webdataset")
    _write(tmp_path / "retried", options, GOOD, BAD, OTHER)
    _replace(tmp_path / "retried", options, RETRIED)
    _write(tmp_path / "at once", options, GOOD, RETRIED, OTHER)
    retried, at_once = (folder / "part-000000.tar" for folder in (tmp_path / "retried", tmp_path / "at once"))
    assert retried.read_bytes() == at_once.read_bytes()


def test_a_full_disk_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(OutputUnwritableError, match=r"cannot be written \(No space left .* run the same command again"):
        _write(tmp_path, RowOptions(), GOOD)
    assert not list(tmp_path.glob("*part-*"))


def test_partial_files_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    _write(tmp_path, RowOptions(), GOOD)
    (tmp_path / ".part-000001.parquet.new").write_bytes(b"half")
    with open_shards(tmp_path, FAKE_METADATA, "a", RowOptions()):
        assert sorted(file.name for file in tmp_path.iterdir()) == [".lock", "_manifest.json", "part-000000.parquet"]


def test_top_k_must_be_positive() -> None:
    with pytest.raises(ValueError, match="top_k 0 must be at least 1"):
        replace(RowOptions(), top_k=0)
