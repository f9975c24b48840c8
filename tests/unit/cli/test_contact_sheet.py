"""The contact sheet shows every frame, with a border in its element's colour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from grey_clips import encode_grey_clip
from PIL import Image, ImageColor

from sefar_serve.cli.contact_sheet import CONTEXT_COLOUR, FINE_COLOURS, SheetClip, contact_sheet
from sefar_serve.clip import NotAVideoError
from sefar_serve.schemas.video import SourceFrame


def frames(*placed: tuple[int, str]) -> list[SourceFrame]:
    return [SourceFrame(index=index, time=index / 25, element=element) for index, element in placed]


def test_thumbnails_and_colours(tmp_path: Path) -> None:
    video = encode_grey_clip([60] * 10 + [200] * 10)
    seen = frames((2, "fine_1"), (12, "fine_1"), (5, "fine_2"), (15, "fine_2"), (1, "context"), (18, "context"))
    out = contact_sheet([SheetClip(video, "a clip", seen, 0.8)] * 2, tmp_path / "new" / "sheet.png")
    picture = np.asarray(Image.open(out).convert("RGB"))
    for colour in (CONTEXT_COLOUR, FINE_COLOURS[0], FINE_COLOURS[1]):
        assert (picture == ImageColor.getrgb(colour)).all(axis=-1).sum() > 1000
    for level in (60, 200):  # the thumbnails, with a tolerance for the codec
        near = (np.abs(picture.astype(int) - level) <= 3).all(axis=-1).sum()
        assert near > 2 * 3 * 90 * 90
    assert [p.name for p in out.parent.iterdir()] == ["sheet.png"]


def test_no_file_is_left_if_a_video_cannot_be_read(tmp_path: Path) -> None:
    clip = SheetClip(b"no video" * 20, "bad", frames((0, "context")), 1.0)
    with pytest.raises(NotAVideoError):
        contact_sheet([clip], tmp_path / "sheet.png")
    with pytest.raises(ValueError, match="at least one clip"):
        contact_sheet([], tmp_path / "sheet.png")
    assert not list(tmp_path.iterdir())
