"""Shards are in order, and damaged ones are named."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from feature_folders import GOOD, write_features

from sefar_features import FeaturesError, open_features
from sefar_features.shards import shard_files


def test_shards_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("part-1000000.parquet", "part-999999.parquet", "part-000002.parquet", "part-x.parquet", ".part.new"):
        (tmp_path / name).touch()
    names = [file.name for file in shard_files(tmp_path)]
    assert names == ["part-000002.parquet", "part-999999.parquet", "part-1000000.parquet"]


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("left", [0, 7, 500, -1])
def test_a_damaged_shard_is_named(tmp_path: Path, number: int, left: int) -> None:
    folder = write_features(tmp_path / "f")
    file = folder / f"part-00000{number}.parquet"
    file.write_bytes(file.read_bytes()[:left])
    features = open_features(folder)
    for ask in (lambda: features.ids, lambda: repr(features), features.failures, features.embeddings):
        with pytest.raises(FeaturesError, match=rf"{file.name} cannot be read \(.*\); if it is damaged, delete it"):
            ask()


def test_damage_inside_a_shard_is_named(tmp_path: Path) -> None:
    folder = write_features(tmp_path / "f")
    file = folder / "part-000001.parquet"
    content = bytearray(file.read_bytes())
    content[4:4000] = bytes(3996)  # damages pages, not the footer
    file.write_bytes(content)
    features = open_features(folder)
    for ask in (features.embeddings, lambda: list(features.batches()), features.table):
        with pytest.raises(FeaturesError, match=rf"{file.name} cannot be read"):
            ask()


def test_a_file_that_is_not_a_shard_is_named(tmp_path: Path) -> None:
    folder = write_features(tmp_path / "f")
    file = folder / "part-000001.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["error_code"]), file)
    with pytest.raises(FeaturesError, match=rf"{file.name} is not from `sefar extract` \(no column 'error_code'\)"):
        len(open_features(folder))


def test_a_removed_shard_is_an_error(tmp_path: Path) -> None:
    folder = write_features(tmp_path / "f")
    features = open_features(folder)
    assert features.ids == GOOD
    (folder / "part-000002.parquet").unlink()
    with pytest.raises(FeaturesError, match=r"part-000002\.parquet has changed since .* was opened; open it again"):
        features.table()
