"""The joints of clips on disk: estimated once, one stored file a clip, shared by all runs on these clips."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sefar_serve.atomic import atomic_file
from sefar_serve.clip import ClipError
from sefar_serve.cores import available_cores
from sefar_serve.errors import SefarError
from sefar_serve.lists import ClipKey
from sefar_serve.pose import JOINTS, Estimator
from sefar_serve.pose.load import read_poses
from sefar_serve.sampling import Sampling, sample_indices

from .clip_signatures import ClipSignatures
from .joint_source import Joints, Origin
from .opened import OpenVideos, batches

logger = logging.getLogger(__name__)

STORED = Sampling((48,))
"""The frames whose joints are stored, at the centres of equal segments of the clip; all frames of a shorter clip."""

SPANS = 4
"""Spans of one file that are estimated before the progress bar moves: the file is opened once for as many."""

SIGNATURES, LOCK = "clips.json", ".lock"
"""Files in the folder of joints: what is known of the clips' content, and the lock between processes."""


class JointCacheError(SefarError, OSError):
    """Joints cannot be stored; the message names the folder."""


class JointCache:
    """Estimates the joints of clips and stores them; see `JointSource`.

    A clip is estimated again if its content or its span changes, and for another estimator or number of persons. Clips
    may be renamed, moved and copied. In a span, persons are searched in its own frames only, as in a file of its own.

    Args:
        folder: where the joints are stored; created if missing.
        estimator: finds joints.
        persons: number of persons P to follow.
    """

    def __init__(self, folder: Path, estimator: Estimator, persons: int = 1) -> None:
        self.folder = folder
        self.estimator = estimator
        self.persons = persons
        self._signatures = ClipSignatures(folder / SIGNATURES)

    @property
    def reads_videos(self) -> bool:
        """Yes: their content says whether the stored joints are theirs."""
        return True

    @property
    def origin(self) -> Origin:
        """The estimator."""
        return Origin(self.estimator.name, self.estimator.sha256)

    def file(self, clip: ClipKey) -> Path:
        """The file that holds a clip's joints.

        Raises:
            FileNotFoundError: the clip does not exist.
        """
        key = [*self._signatures.of(clip), self.estimator.sha256, self.persons, STORED.frames, len(JOINTS)]
        return self.folder / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]}.npz"

    def read(
        self, clips: Sequence[ClipKey], progress: bool = True, threads: int | None = None, title: str = ""
    ) -> tuple[dict[ClipKey, Joints], dict[ClipKey, Exception]]:
        """Load the joints of clips; estimate and store those that are missing. If interrupted, the next call resumes.

        Processes that start together estimate each clip once.

        Args:
            clips: files, or spans of them.
            progress: show a progress bar.
            threads: clips estimated at the same time; None for one per core.
            title: what the clips are, for the progress bar.

        Returns:
            The joints of each clip, and for each clip that cannot be read the error, a `ClipError` or an `OSError`.

        Raises:
            JointCacheError: the folder cannot be written.
        """
        found, missing, errors = self._stored(dict.fromkeys(clips))
        if missing:
            with self._locked():
                self._signatures.save()
                more, missing, _ = self._stored(missing)
                found |= more
                estimated, broken = self._estimate(missing, progress, threads or available_cores(), title)
            found |= estimated
            errors |= broken
        elif all(os.access(place, os.W_OK) for place in (self.folder, self.folder / LOCK)):
            # Only saves time, so it is not done if another process has the folder.
            with (self.folder / LOCK).open("a") as handle, suppress(BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._signatures.save()
        return found, errors

    def _stored(
        self, clips: Mapping[ClipKey, object]
    ) -> tuple[dict[ClipKey, Joints], dict[ClipKey, None], dict[ClipKey, Exception]]:
        """Joints that are stored, clips that are not, and clips that do not exist."""
        found: dict[ClipKey, Joints] = {}
        missing: dict[ClipKey, None] = {}
        errors: dict[ClipKey, Exception] = {}
        for clip in clips:
            try:
                file = self.file(clip)
            except OSError as error:
                errors[clip] = error
                continue
            joints = _load(file)
            if joints is None:
                missing[clip] = None
            else:
                found[clip] = joints
        return found, missing, errors

    def _estimate(
        self, clips: Mapping[ClipKey, None], progress: bool, threads: int, title: str
    ) -> tuple[dict[ClipKey, Joints], dict[ClipKey, Exception]]:
        found: dict[ClipKey, Joints] = {}
        errors: dict[ClipKey, Exception] = {}
        listed = list(clips)
        text = f"finding joints of {title}" if title else "finding joints"
        pool = ThreadPoolExecutor(threads, thread_name_prefix="sefar-pose")
        try:
            jobs = [
                pool.submit(self._estimate_batch, [listed[index] for index in batch])
                for batch in batches(listed, SPANS)
            ]
            with tqdm(total=len(listed), desc=text, unit="clip", disable=not progress) as bar:
                for job in as_completed(jobs):
                    try:
                        estimated, broken = job.result()
                    except OSError as error:
                        raise JointCacheError(self._cannot_write(error)) from error
                    found |= estimated
                    errors |= broken
                    bar.update(len(estimated) + len(broken))
        finally:
            pool.shutdown(cancel_futures=True)
        return found, errors

    def _estimate_batch(self, clips: Sequence[ClipKey]) -> tuple[dict[ClipKey, Joints], dict[ClipKey, Exception]]:
        """Estimate and store clips of one file, which is opened once."""
        found: dict[ClipKey, Joints] = {}
        errors: dict[ClipKey, Exception] = {}
        videos = OpenVideos()
        for clip in clips:
            try:
                with videos.open(clip) as (video, span):
                    indices = np.unique(sample_indices(span[1] - span[0], STORED))
                    joints = read_poses(
                        video, span, span[0] + indices, self.estimator, persons=self.persons
                    ).poses.joints
            except (ClipError, FileNotFoundError) as error:
                errors[clip] = error
            else:
                self.write(clip, joints)
                found[clip] = joints
        return found, errors

    def write(self, clip: ClipKey, joints: Joints) -> None:
        """Store the joints of a clip, replacing those that are stored.

        Args:
            clip: a file, or a span of one.
            joints: float32 (T,P,J,4), at the centres of T equal segments.

        Raises:
            FileNotFoundError: the clip does not exist.
            OSError: the folder cannot be written.
        """
        file = self.file(clip)
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(file) as new, new.open("wb") as stream:
            np.savez(stream, joints=joints, clip=np.array(str(clip)))

    def _cannot_write(self, error: OSError) -> str:
        return (
            f"cannot store joints in {self.folder}: {error}; set data.joints (--joints) to an existing folder that you "
            "can write to"
        )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the folder's lock between processes; wait for it."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise JointCacheError(self._cannot_write(error)) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _load(file: Path) -> Joints | None:
    """Load stored joints; None if there are none, or the file is damaged."""
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            joints: Joints = arrays["joints"]
            return joints
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError):
        logger.warning("%s is damaged; its clip's joints are estimated again", file)
        return None
