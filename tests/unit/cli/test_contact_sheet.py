"""The contact sheet shows every frame, with a border in its element's colour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from grey_clips import encode_grey_clip
from PIL import Image, ImageColor

from sefar_serve.cli.contact_sheet import (
    AXIS,
    BLANK,
    CONTEXT_COLOUR,
    FINE_COLOURS,
    FOOT,
    GAP,
    LINE,
    MARGIN,
    RED,
    THUMB,
    TITLE,
    SheetClip,
    contact_sheet,
)
from sefar_serve.clip import NotAVideoError
from sefar_serve.pose import JOINTS
from sefar_serve.pose.draw import LEFT, RIGHT
from sefar_serve.schemas.pose import PoseInfo
from sefar_serve.schemas.video import ClipInfo, SourceFrame


def frames(*placed: tuple[int, str], size: int = 96, pose: PoseInfo | None = None) -> ClipInfo:
    return ClipInfo(
        frame_count=20,
        duration=0.8,
        width=size,
        height=size,
        stream=0,
        frames=[SourceFrame(index=index, time=index / 25, element=element) for index, element in placed],
        corrupt_frames=[],
        warnings=[],
        pose=pose,
    )


def test_thumbnails_and_colours(tmp_path: Path) -> None:
    video = encode_grey_clip([60] * 10 + [200] * 10)
    seen = frames((2, "fine_1"), (12, "fine_1"), (5, "fine_2"), (15, "fine_2"), (1, "context"), (18, "context"))
    out = contact_sheet([SheetClip(video, "a clip", seen)] * 2, tmp_path / "new" / "sheet.png")
    picture = np.asarray(Image.open(out).convert("RGB"))
    for colour in (CONTEXT_COLOUR, FINE_COLOURS[0], FINE_COLOURS[1]):
        assert (picture == ImageColor.getrgb(colour)).all(axis=-1).sum() > 1000
    for level in (60, 200):  # the thumbnails, with a tolerance for the codec
        near = (np.abs(picture.astype(int) - level) <= 3).all(axis=-1).sum()
        assert near > 2 * 3 * 90 * 90
    assert [p.name for p in out.parent.iterdir()] == ["sheet.png"]


def test_frames_that_are_elements_of_their_own_are_a_grid(tmp_path: Path) -> None:
    seen = frames(*((index, f"fine_{index + 1}") for index in range(15)), (15, "context"))
    video = encode_grey_clip([16 * index for index in range(16)] + [255] * 4)
    with Image.open(contact_sheet([SheetClip(video, "a clip", seen)], tmp_path / "sheet.png")) as sheet:
        assert sheet.width < 9 * (THUMB + GAP) + 2 * MARGIN
        assert sheet.height < TITLE + 2 * (THUMB + GAP) + AXIS + FOOT + GAP


def test_no_file_is_left_if_a_video_cannot_be_read(tmp_path: Path) -> None:
    clip = SheetClip(b"no video" * 20, "bad", frames((0, "context")))
    with pytest.raises(NotAVideoError):
        contact_sheet([clip], tmp_path / "sheet.png")
    with pytest.raises(ValueError, match="at least one clip"):
        contact_sheet([], tmp_path / "sheet.png")
    assert not list(tmp_path.iterdir())


def two_frames_with_a_person_in_the_first() -> ClipInfo:
    places = np.random.default_rng(0).uniform(20, 76, (2, 1, len(JOINTS), 2))
    pose = PoseInfo(
        estimator="fake",
        found=[0.5],
        presence=[[0.9], [0.0]],
        joint_names=list(JOINTS),
        joints=np.ones((2, 1, len(JOINTS), 4)).tolist(),
        image=places.tolist(),
    )
    return frames((2, "context"), (12, "context"), pose=pose)


def pixels_of(picture: np.ndarray, colour: str) -> int:
    return int((picture == ImageColor.getrgb(colour)).all(axis=-1).sum())


def test_skeletons_lie_over_the_frames(tmp_path: Path) -> None:
    clip = SheetClip(encode_grey_clip([60] * 10 + [200] * 10), "a clip", two_frames_with_a_person_in_the_first())
    picture = np.asarray(Image.open(contact_sheet([clip], tmp_path / "sheet.png")).convert("RGB"))
    for colour in (LEFT, RIGHT):
        assert pixels_of(picture, colour) > 20
    assert pixels_of(picture, RED)
    # The second frame is as it is.
    assert (np.abs(picture.astype(int) - 200) <= 3).all(axis=-1).sum() > 90 * 90


def test_warnings_stand_below_the_title(tmp_path: Path) -> None:
    seen = frames((2, "context"), (12, "context"))
    warned = seen.model_copy(update={"warnings": ["no person found"]})
    video = encode_grey_clip([60] * 20)
    plain, told = (
        np.asarray(Image.open(contact_sheet([SheetClip(video, "a clip", clip)], tmp_path / "sheet.png")).convert("RGB"))
        for clip in (seen, warned)
    )
    assert pixels_of(plain, RED) == 0 and pixels_of(told, RED) > 5
    assert len(told) - len(plain) == LINE


def test_a_blank_sheet_does_not_open_the_video(tmp_path: Path) -> None:
    clip = SheetClip(tmp_path / "gone.mp4", "a clip", two_frames_with_a_person_in_the_first())
    picture = np.asarray(Image.open(contact_sheet([clip], tmp_path / "sheet.png", blank=True)).convert("RGB"))
    assert pixels_of(picture, LEFT) > 20
    assert pixels_of(picture, BLANK) > 2 * 80 * 80
    without = SheetClip(tmp_path / "gone.mp4", "a clip", frames((0, "context")))
    with pytest.raises(ValueError, match="an anonymous contact sheet needs joints"):
        contact_sheet([without], tmp_path / "other.png", blank=True)
