"""The limit on the memory of decoded clips."""

from __future__ import annotations

import gc
import threading

from sefar_serve.room import Room


class Clip:
    other: Clip | None = None


def test_a_wait_ends_when_a_clip_is_freed() -> None:
    room = Room(10)
    room.wait()
    clip = Clip()
    room.hold(clip, 10)
    assert room.held == 10
    waiting = threading.Thread(target=room.wait)
    waiting.start()
    assert waiting.is_alive()
    del clip
    waiting.join(10)
    assert not waiting.is_alive()
    assert room.held == 0


def test_clips_in_a_cycle_do_not_block_for_ever(monkeypatch) -> None:
    monkeypatch.setattr("sefar_serve.room.COLLECT_SECONDS", 0.01)
    room = Room(10)
    gc.disable()
    try:
        one, two = Clip(), Clip()
        one.other, two.other = two, one
        room.hold(one, 10)
        del one, two
        assert room.held == 10
        waiting = threading.Thread(target=room.wait)
        waiting.start()
        waiting.join(10)
        assert not waiting.is_alive()
    finally:
        gc.enable()
