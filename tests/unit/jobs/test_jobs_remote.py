"""Fetched videos of jobs are deleted as soon as they are decoded, or cannot be."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import cast

import pytest
from coloured_persons import walking_person
from pose_models import POSE, fake_estimators

from sefar_serve.extract.clips import ClipRef
from sefar_serve.extract.decoders import DecodeError, DecoderPool
from sefar_serve.fetch import UrlFetcher
from sefar_serve.jobs.remote import FetchingDecoders


class Videos:
    """A fetcher with two videos."""

    def fetch(self, url: str) -> io.BytesIO:
        return io.BytesIO(walking_person() if url.endswith("walking.mp4") else b"text, not a video")


def test_a_fetched_video_is_gone_before_the_model_sees_the_clip(tmp_path: Path) -> None:
    async def run() -> None:
        with DecoderPool(POSE, workers=1, slots=1, estimators=fake_estimators(anonymous=True)) as pool:
            decoders = FetchingDecoders(pool, cast(UrlFetcher, Videos()), tmp_path / "fetched")
            async with decoders.decoded(ClipRef("it", "http://x.y/walking.mp4")) as clip:
                assert clip.poses is not None and clip.poses.detected.all()
                assert not list((tmp_path / "fetched").iterdir())
            with pytest.raises(DecodeError, match=r"http://x\.y/text\.mp4"):
                async with decoders.decoded(ClipRef("it", "http://x.y/text.mp4")):
                    pass
            assert not list((tmp_path / "fetched").iterdir())
            decoders.close()
        assert not list(tmp_path.iterdir())

    asyncio.run(run())
