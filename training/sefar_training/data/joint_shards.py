"""Joints that `sefar extract --poses` stored: rows of Parquet files, found by the path and the span of their clip."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sefar_serve.lists import ClipKey
from sefar_serve.optional import needs_extra

from .joint_cache import STORED
from .joint_source import Joints, MissingPosesError, Origin, StoredJointsError, check_description

if TYPE_CHECKING:
    import pyarrow as pa

_KEY = b"sefar.poses"
"""Key in the metadata of the Parquet schema: JSON with the shape of the column, the joints' names and the estimator."""

_SPAN = "#t="
"""Follows the path in the id of a span."""

_COLUMNS = ("id", "path", "start", "end", "poses", "frame_times", "duration", "error")
_NAMED = 5
"""Most clips that a message names."""


def is_shards(folder: Path) -> bool:
    """Whether a folder holds Parquet files."""
    return any(folder.glob("*.parquet"))


class JointShards:
    """The joints of clips in a folder of `sefar extract --poses`; see `JointSource`.

    A row belongs to the clip of its path, and its start and end. If the files have moved since, it belongs to the one
    that its id names, relative to `root`. No span is cut out of a longer row. The videos need not exist.

    Args:
        folder: holds the Parquet files.
        root: folder of the clips.
        persons: number of persons P that the model sees.
        frames: number of frames F that the model takes.

    Raises:
        StoredJointsError: the files have no joints, other joints, fewer frames, or joints of several estimators.
        ModuleNotFoundError: the extra `batch` is not installed.
    """

    def __init__(self, folder: Path, root: Path, persons: int, frames: int) -> None:
        with needs_extra("batch"):
            import pyarrow.parquet as pq
        self.folder = folder
        self._root = root
        self._files: dict[Path, tuple[int, ...]] = {}
        origins: dict[Origin, Path] = {}
        for file in sorted(folder.glob("*.parquet")):
            schema = pq.read_schema(file)
            told = _description(schema, file)
            origins[check_description(told, persons, file, frames)] = file
            self._files[file] = tuple(told["shape"])
        if len(origins) > 1:
            of = ", ".join(f"{file.name} of {made.estimator} ({made.sha256[:12]}…)" for made, file in origins.items())
            raise StoredJointsError(
                f"{folder} has joints of several pose estimators, {of}; extract them again into an empty folder"
            )
        (self.origin,) = origins

    @property
    def reads_videos(self) -> bool:
        """No: rows have the paths and spans of the clips, and their ids."""
        return False

    def read(
        self, clips: Sequence[ClipKey], progress: bool = True, threads: int | None = None, title: str = ""
    ) -> tuple[dict[ClipKey, Joints], dict[ClipKey, Exception]]:
        """Load the joints of clips. See `JointSource.read`.

        Raises:
            StoredJointsError: clips have no row.
        """
        wanted: dict[ClipKey, list[ClipKey]] = {}
        for clip in dict.fromkeys(clips):
            wanted.setdefault(_place(clip.path, clip.start, clip.end), []).append(clip)
        found: dict[ClipKey, Joints] = {}
        errors: dict[ClipKey, Exception] = {}
        for file, shape in self._files.items():
            self._read_file(file, shape, wanted, found, errors)
        missing = [clip for clip in dict.fromkeys(clips) if clip not in found and clip not in errors]
        if missing:
            more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
            of_list = f" of {title}" if title else ""
            raise StoredJointsError(
                f"{self.folder} has no joints of {len(missing)} of {len(set(clips))} clips{of_list}: "
                f"{', '.join(map(str, missing[:_NAMED]))}{more}; extract the joints of all clips of the lists with "
                "`sefar extract --poses`; a span needs a row with the same start and end, so give it the list itself. "
                "Rows are found by path, or by id relative to the folder of the clips (--root, in recipes data.root)"
            )
        return found, {clip: error for clip, error in errors.items() if clip not in found}

    def _read_file(
        self,
        file: Path,
        shape: tuple[int, ...],
        wanted: dict[ClipKey, list[ClipKey]],
        found: dict[ClipKey, Joints],
        errors: dict[ClipKey, Exception],
    ) -> None:
        import pyarrow.parquet as pq

        table = pq.read_table(file, columns=list(_COLUMNS))
        poses = iter(_numbers(table.column("poses"), shape))
        for row in table.drop_columns(["poses"]).append_column("posed", table.column("poses").is_valid()).to_pylist():
            joints = next(poses) if row["posed"] else None
            span = row["start"], row["end"]
            name = row["id"] if span == (None, None) else row["id"].rsplit(_SPAN, 1)[0]
            places = [_place(file, *span) for file in (Path(row["path"]), self._root / name)]
            for clip in next((wanted[place] for place in places if place in wanted), ()):
                if joints is None or not np.isfinite(joints).all():
                    errors[clip] = MissingPosesError(
                        f"{clip} has no joints in {file}: {row['error'] or 'they are not numbers'}"
                    )
                else:
                    start, end = span[0] or 0.0, min(row["duration"], math.inf if span[1] is None else span[1])
                    found[clip] = in_time(joints, np.array(row["frame_times"]) - start, end - start)


def _place(path: Path, start: float | None, end: float | None) -> ClipKey:
    """A clip by its resolved path; a start of None is 0."""
    return ClipKey(path.resolve(), start or 0.0, end)


def in_time(joints: Joints, times: NDArray[np.float64], duration: float) -> Joints:
    """Joints in order of time, at the centres of equal segments.

    Args:
        joints: float32 (F,P,J,4), in any order; frames may repeat.
        times: float64 (F,), seconds since the start of the clip.
        duration: of the clip, in seconds.

    Returns:
        float32 (T,P,J,4): the T different frames. If they are not spread evenly over the clip, as those of the layout
        ``local``, interpolated to `STORED` of them.
    """
    times, first = np.unique(times, return_index=True)
    joints = joints[first]
    count = len(times)
    shares = times / duration if duration > 0 else (np.arange(count) + 0.5) / count
    if (np.abs(shares - (np.arange(count) + 0.5) / count) <= 1 / count).all():
        return joints
    even = (np.arange(STORED.frames) + 0.5) / STORED.frames
    columns = joints.reshape(count, -1).T
    between = np.stack([np.interp(even, shares, column) for column in columns], axis=1)
    return between.reshape(STORED.frames, *joints.shape[1:]).astype(np.float32)


def _description(schema: pa.Schema, file: Path) -> dict[str, Any]:
    metadata = schema.metadata or {}
    if _KEY not in metadata:
        raise StoredJointsError(f"{file} has no joints; extract them with `sefar extract --poses`")
    if "poses" not in schema.names:
        raise StoredJointsError(
            f"{file} has no column `poses`: its joints are in other files; extract them with --format parquet"
        )
    try:
        told = json.loads(metadata[_KEY])
        if len(told["shape"]) != 4:
            raise ValueError(f"shape {told['shape']}")
    except (ValueError, KeyError, TypeError) as error:
        raise StoredJointsError(f"{file} has damaged metadata ({_KEY.decode()}: {error}); copy it again") from error
    return dict(told)


def _numbers(column: pa.ChunkedArray, shape: tuple[int, ...]) -> Joints:
    """The rows of a column of nested lists that are not null, float32 (rows,F,P,J,4)."""
    values = column.drop_null().combine_chunks()
    for _ in shape:
        values = values.flatten()
    return values.to_numpy(zero_copy_only=False).astype(np.float32).reshape(len(values) // math.prod(shape), *shape)
