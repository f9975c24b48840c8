"""Reads joints that are known, not estimated; see `sefar_training.joint_archive`."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from sefar_serve.lists import ClipKey
from sefar_serve.pose import JOINTS

from ..joint_archive import ABOUT
from .joint_source import Joints, StoredJointsError, check_description


def is_true_joints(folder: Path) -> bool:
    """Whether a folder holds true joints."""
    return (folder / ABOUT).is_file()


class TrueJoints:
    """The joints in a folder that `write_joints` filled; see `JointSource`.

    Args:
        folder: the folder in that of the clips.
        persons: number of persons P that the model sees.

    Raises:
        StoredJointsError: there are none, or other ones than the model takes.
    """

    def __init__(self, folder: Path, persons: int) -> None:
        try:
            told = json.loads((folder / ABOUT).read_text())
        except OSError as error:
            raise StoredJointsError(
                f"{folder} has no {ABOUT}, so no true joints; write them, e.g. with `sefar synth --joints`"
            ) from error
        except ValueError as error:
            raise StoredJointsError(f"{folder / ABOUT} is damaged: {error}; write it again") from error
        self.folder = folder
        self.persons = persons
        self.origin = check_description(told, None, folder / ABOUT)

    @property
    def reads_videos(self) -> bool:
        """No: clips are found by their paths alone."""
        return False

    def read(
        self, clips: Sequence[ClipKey], progress: bool = True, threads: int | None = None, title: str = ""
    ) -> tuple[dict[ClipKey, Joints], dict[ClipKey, Exception]]:
        """Load the joints of clips. See `JointSource.read`; no clip is broken.

        Raises:
            StoredJointsError: clips have no joints or are spans of files, the joints are of another number of persons,
                or an archive is damaged.
        """
        span = next((clip for clip in clips if clip.is_span), None)
        if span is not None:
            raise StoredJointsError(
                f"{self.folder} has the joints of whole files only, and {span} is a span of one; cut the spans into "
                "files of their own (ffmpeg -ss START -to END -i …), or use estimated joints (data.true_joints=null)"
            )
        above = self.folder.resolve().parent
        names = {clip: clip.path.resolve() for clip in dict.fromkeys(clips)}
        wanted = {place.relative_to(above).as_posix(): clip for clip, place in names.items() if above in place.parents}
        found: dict[ClipKey, Joints] = {}
        for file in sorted(self.folder.glob("*.npz")):
            for name, joints in _load(file, wanted).items():
                found[wanted[name]] = self._checked(joints, name, file)
        missing = [clip for clip in names if clip not in found]
        if missing:
            raise StoredJointsError(
                f"{self.folder} has no joints of {len(missing)} of {len(names)} clips, e.g. {missing[0]}; write "
                "them again"
            )
        return found, {}

    def _checked(self, joints: Joints, name: str, file: Path) -> Joints:
        if joints.ndim != 4 or joints.shape[1:] != (self.persons, len(JOINTS), 4):
            raise StoredJointsError(
                f"{file}: {name} has shape {joints.shape}, expected (frames, {self.persons}, {len(JOINTS)}, 4); set "
                "model.persons to the number of persons, or write it again"
            )
        return joints.astype(np.float32)


def _load(file: Path, names: Collection[str]) -> dict[str, Joints]:
    """Those of an archive's arrays that have one of these names."""
    try:
        with np.load(file) as arrays:
            return {name: arrays[name] for name in arrays.files if name in names}
    except (zipfile.BadZipFile, OSError, EOFError, ValueError) as error:
        raise StoredJointsError(f"{file} is damaged: {error}; write it again") from error
