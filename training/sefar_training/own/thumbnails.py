"""Small pictures of clips, for a report."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from sefar_serve.clip import ClipError
from sefar_serve.lists import ClipKey

from ..data.opened import OpenVideos
from ..start import Prepared

logger = logging.getLogger(__name__)

WIDTH, HEIGHT = 160, 120
"""Largest size, in pixels."""

MOST = 40
"""Most clips that are decoded for a report."""


def thumbnails(prepared: Prepared, clips: Iterable[int]) -> dict[int, NDArray[np.uint8]]:
    """Decode the middle frames of clips.

    Args:
        prepared: the collection.
        clips: numbers of the clips, the most important first; of more than `MOST`, the others are left out.

    Returns:
        Pictures by clip, uint8 (h,w,3), RGB, at most 160x120. Clips that no longer decode have none.
    """
    chosen = list(dict.fromkeys(clips))[:MOST]
    videos = OpenVideos()
    pictures = {}
    # Spans of one file one after another, so that it is opened once.
    for clip in sorted(chosen, key=lambda i: (prepared.rows[i].name, prepared.rows[i].start or 0.0)):
        row = prepared.rows[clip]
        path = prepared.collection.root / row.name
        try:
            pictures[clip] = _middle(videos, ClipKey(path, row.start, row.end))
        except (ClipError, OSError) as error:
            logger.warning("the report has no picture of %s: %s", row.title, error)
    return pictures


def _middle(videos: OpenVideos, clip: ClipKey) -> NDArray[np.uint8]:
    with videos.open(clip) as (video, (first, past)):
        frames = video.read([(first + past) // 2], HEIGHT, within=[(first, past)])
    picture = frames.pixels[0]
    height, width = picture.shape[:2]
    scale = min(WIDTH / width, HEIGHT / height, 1.0)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
