"""The folder of features: what it holds in each format, and what it refuses."""

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
MENDED = row_of(BAD.clip)


def _write(folder: Path, options: RowOptions, *rows: ClipRow) -> None:
    with open_shards(folder, FAKE_METADATA, "a", options) as shards:
        shards.commit(0, rows)
        shards.describe(clips=len(rows), shards=1)


def _replace(folder: Path, options: RowOptions, *rows: ClipRow) -> None:
    with open_shards(folder, FAKE_METADATA, "a", options) as shards:
        shards.replace(0, rows)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_parquet_shard_holds_all_of_a_row(tmp_path: Path, dtype: str) -> None:
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


def test_arrays_have_a_line_for_each_row_and_nan_where_a_clip_failed(tmp_path: Path) -> None:
    options = RowOptions(tokens=True, format="npy")
    _write(tmp_path, options, GOOD, BAD, OTHER)
    embeddings = np.load(tmp_path / "part-000000.embedding.npy")
    assert "embedding" not in pq.read_schema(tmp_path / "part-000000.parquet").names
    np.testing.assert_array_equal(embeddings[[0, 2]], [GOOD.embedding, OTHER.embedding])
    assert np.isnan(embeddings[1]).all()
    _replace(tmp_path, options, MENDED)
    embeddings = np.load(tmp_path / "part-000000.embedding.npy")
    np.testing.assert_array_equal(embeddings, [GOOD.embedding, MENDED.embedding, OTHER.embedding])
    tokens = np.load(tmp_path / "part-000000.tokens.npy")
    np.testing.assert_array_equal(tokens, [GOOD.tokens, MENDED.tokens, OTHER.tokens])


def test_a_tar_has_a_sample_for_each_good_row(tmp_path: Path) -> None:
    options = RowOptions(format="webdataset")

    def found() -> dict[str, str]:
        with tarfile.open(tmp_path / "part-000000.tar") as tar:
            names = tar.getnames()
            assert len(names) == len(set(names))
            about = [name for name in names if name.endswith(".json")]
            return {name.removesuffix(".json"): json.loads(tar.extractfile(name).read())["id"] for name in about}

    # Ids that differ in a dot or a slash alone stay apart.
    _write(tmp_path, options, GOOD, BAD, OTHER)
    assert found() == {"part-000000-00000": "a/good.mp4", "part-000000-00002": "a/good_mp4"}
    for _ in range(2):  # as after a kill between the tar and its Parquet file
        _replace(tmp_path, options, MENDED)
        assert found()["part-000000-00001"] == "bad"
        assert len(found()) == 3


def test_a_row_takes_the_place_of_the_failed_one(tmp_path: Path) -> None:
    _write(tmp_path, RowOptions(), GOOD, BAD, OTHER)
    _replace(tmp_path, RowOptions(), MENDED)
    _write(tmp_path / "at once", RowOptions(), GOOD, MENDED, OTHER)
    mended, at_once = (pq.read_table(folder / "part-000000.parquet") for folder in (tmp_path, tmp_path / "at once"))
    assert mended.equals(at_once)


@pytest.mark.parametrize(
    ("meta", "sha256", "options", "says"),
    [
        (FAKE_METADATA.model_copy(update={"version": "2"}), "a", RowOptions(), "version 0, with version '0', not '2'"),
        (FAKE_METADATA, "b", RowOptions(), "with sha256 'a', not 'b'"),
        (FAKE_METADATA.model_copy(update={"labels": ("x", "y", "z")}), "a", RowOptions(), "with labels others"),
        (FAKE_METADATA, "a", RowOptions(dtype="float16"), "with dtype 'float32', not 'float16'"),
        (FAKE_METADATA, "a", RowOptions(format="npy"), "with format 'parquet', not 'npy'"),
    ],
)
def test_another_model_or_setting_is_refused(
    tmp_path: Path, meta: object, sha256: str, options: RowOptions, says: str
) -> None:
    _write(tmp_path, RowOptions(), GOOD)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(MixedModelError, match=says), open_shards(tmp_path, meta, sha256, options):
        pass
    assert before == {file.name: file.read_bytes() for file in tmp_path.iterdir()}


def test_a_server_does_not_tell_its_file_and_goes_by_the_rest(tmp_path: Path) -> None:
    _write(tmp_path, RowOptions(), GOOD)
    with open_shards(tmp_path, FAKE_METADATA, None, RowOptions()) as shards:
        assert shards.numbers() == [0]


def test_one_run_at_a_time(tmp_path: Path) -> None:
    with (
        open_shards(tmp_path, FAKE_METADATA, "a", RowOptions()),
        pytest.raises(OutputBusyError, match=f"another run writes to {tmp_path}"),
        open_shards(tmp_path, FAKE_METADATA, "a", RowOptions()),
    ):
        pass
    with open_shards(tmp_path, FAKE_METADATA, "a", RowOptions()):
        pass


def test_what_is_no_folder_of_features_is_refused(tmp_path: Path) -> None:
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
            ExtractError, match=r"part-000000.parquet cannot be read as a shard .* move it away, and the next"
        ),
    ):
        shards.rows(0)


@pytest.mark.parametrize(("form", "name"), [("npy", "part-000000.embedding.npy"), ("webdataset", "part-000000.tar")])
def test_a_file_beside_a_shard_that_is_missing_or_cut_is_named(tmp_path: Path, form: str, name: str) -> None:
    options = RowOptions(format=form)
    _write(tmp_path, options, GOOD, BAD, OTHER)
    file, parquet = tmp_path / name, (tmp_path / "part-000000.parquet").read_bytes()
    whole = file.read_bytes()
    for length in (0, 130, min(1500, len(whole) - 8)):
        file.write_bytes(whole[:length])
        with pytest.raises(ExtractError, match=f"{name} does not hold what its shard says; move part-000000.parquet"):
            _replace(tmp_path, options, MENDED)
        assert (file.stat().st_size, (tmp_path / "part-000000.parquet").read_bytes()) == (length, parquet)
    file.unlink()
    with (
        open_shards(tmp_path, FAKE_METADATA, "a", options) as shards,
        pytest.raises(ExtractError, match=f"{name} is missing; copy it back, or delete part-000000.parquet"),
    ):
        shards.rows(0)


def test_mended_samples_stand_where_their_rows_do(tmp_path: Path) -> None:
    options = RowOptions(format="webdataset")
    _write(tmp_path / "mended", options, GOOD, BAD, OTHER)
    _replace(tmp_path / "mended", options, MENDED)
    _write(tmp_path / "at once", options, GOOD, MENDED, OTHER)
    mended, at_once = (folder / "part-000000.tar" for folder in (tmp_path / "mended", tmp_path / "at once"))
    assert mended.read_bytes() == at_once.read_bytes()


def test_a_full_disk_is_said_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(OutputUnwritableError, match=r"cannot be written \(No space left .*run the same command again"):
        _write(tmp_path, RowOptions(), GOOD)
    assert not list(tmp_path.glob("*part-*"))


def test_what_a_killed_run_left_half_written_goes(tmp_path: Path) -> None:
    _write(tmp_path, RowOptions(), GOOD)
    (tmp_path / ".part-000001.parquet.new").write_bytes(b"half")
    with open_shards(tmp_path, FAKE_METADATA, "a", RowOptions()):
        assert sorted(file.name for file in tmp_path.iterdir()) == [".lock", "_manifest.json", "part-000000.parquet"]


def test_a_row_wants_a_label() -> None:
    with pytest.raises(ValueError, match="top_k 0 must be at least 1"):
        replace(RowOptions(), top_k=0)
