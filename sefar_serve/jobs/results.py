"""A job's rows as one file to download."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pyarrow.parquet as pq

from sefar_serve.atomic import atomic_file
from sefar_serve.jobs.errors import JobHasNoRowsError

ResultFormat = Literal["parquet", "jsonl"]


def write_result(features: Path, file: Path, kind: ResultFormat) -> None:
    """Merge the shards of a folder of features, with one in memory at a time.

    Args:
        features: the folder.
        file: file to write, atomically.
        kind: ``parquet`` with the schema of the shards, or ``jsonl`` with one JSON object per line.

    Raises:
        JobHasNoRowsError: there are no shards.
    """
    shards = sorted(features.glob("part-*.parquet"))
    if not shards:
        raise JobHasNoRowsError("the job ended before any rows were saved; submit it again")
    with atomic_file(file) as new:
        if kind == "parquet":
            with pq.ParquetWriter(new, pq.read_schema(shards[0]), compression="zstd") as writer:
                for shard in shards:
                    writer.write_table(pq.read_table(shard))
        else:
            with new.open("w", encoding="utf-8") as lines:
                for shard in shards:
                    lines.writelines(json.dumps(row) + "\n" for row in pq.read_table(shard).to_pylist())
