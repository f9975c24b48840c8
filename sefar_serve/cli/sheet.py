"""The contact sheet of `sefar classify --sheet`: which clips are on it, and what its joints leave in the answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sefar_serve.cli import console
from sefar_serve.cli.contact_sheet import SheetClip, contact_sheet
from sefar_serve.schemas.problem import ItemError
from sefar_serve.schemas.video import Classification


def save_sheet(files: Sequence[str], items: Sequence[Classification | ItemError], sheet: Path, *, blank: bool) -> None:
    """Draw the clips that were classified; without any, nothing is written.

    Args:
        files: the videos.
        items: their answers, with joints if the model sees them.
        sheet: PNG to write.
        blank: draw skeletons on a blank ground; the videos are not opened.

    Raises:
        ClipError: a video cannot be read.
        ValueError: an answer has no joints to draw on a blank ground.
    """
    clips = [
        SheetClip(
            file,
            f"{Path(item.name).name}   {console.label_text(item.labels[0])}   reliability {item.reliability:.2f}"
            + ("   UNFAMILIAR" if item.unfamiliar else ""),
            item.clip,
        )
        for file, item in zip(files, items, strict=True)
        if isinstance(item, Classification)
    ]
    if clips:
        console.err.print(f"contact sheet: {contact_sheet(clips, sheet, blank=blank)}")


def without_joints(item: Classification | ItemError) -> Classification | ItemError:
    """An answer as it is if joints are not requested; they may have been requested for the sheet."""
    if isinstance(item, ItemError):
        return item
    pose = item.clip.pose
    clip = item.clip if pose is None else item.clip.model_copy(update={"pose": pose.without_joints()})
    timeline = item.timeline and [window.model_copy(update={"pose": None}) for window in item.timeline]
    return item.model_copy(update={"clip": clip, "timeline": timeline})
