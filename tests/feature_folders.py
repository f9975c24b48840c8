"""Folders of features for the tests of their reader: five shards of four clips; all clips of the last one failed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from stub_backend import clips_of, row_of

from sefar_features import Match
from sefar_serve.engine.fake import FAKE_METADATA
from sefar_serve.extract.rows import RowOptions, failed_row
from sefar_serve.extract.shards import open_shards

NAMES = [f"{number}.mp4" for number in range(20)]
BAD = {"3.mp4", "16.mp4", "17.mp4", "18.mp4", "19.mp4"}
GOOD = [name for name in NAMES if name not in BAD]


def write_features(folder: Path, **options: object) -> Path:
    """Write the output of a complete run of `sefar extract`; the options are those of `RowOptions`."""
    with open_shards(folder, FAKE_METADATA, "a", RowOptions(**options)) as shards:
        for shard in range(5):
            clips = clips_of(NAMES[4 * shard : 4 * shard + 4])
            rows = [failed_row(c, "empty_video", "empty", FAKE_METADATA) if c.id in BAD else row_of(c) for c in clips]
            shards.commit(shard, rows)
        shards.describe(clips=len(NAMES), failed=len(BAD), shards=5, complete=True)
    return folder


def retry(folder: Path, **options: object) -> None:
    """Do what `sefar extract --retry-failed` does if 3.mp4, in the first shard, is now good."""
    with open_shards(folder, FAKE_METADATA, "a", RowOptions(**options)) as shards:
        shards.replace(0, [row_of(clip) for clip in clips_of(["3.mp4"])])


def vectors_of(names: list[str], kind: str = "embedding") -> np.ndarray:
    """Embeddings (N, 256) or tokens (N, E, D) of good clips."""
    return np.stack([getattr(row_of(clip), kind) for clip in clips_of(names)])


def assert_same_matches(found: list[Match], expected: list[Match]) -> None:
    """Check for the same clips in the same order. The last digits of cosines depend on the memory layout."""
    assert [match.id for match in found] == [match.id for match in expected]
    np.testing.assert_allclose([m.score for m in found], [m.score for m in expected], atol=1e-6)
