from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stub_backend import clips_of

from sefar_serve.extract.clips import ClipIdConflictError, ClipMovedError, ClipRef, ExtractError, OutputUnwritableError
from sefar_serve.extract.plan import Plan


@pytest.fixture
def plan(tmp_path: Path) -> Iterator[Plan]:
    plan = Plan(tmp_path)
    assert not list(tmp_path.iterdir())  # a killed run would leave it behind
    yield plan
    plan.close()


def _done(*rows: tuple[str, bool]) -> list[tuple[ClipRef, str | None]]:
    return [(clip, "not_a_video" if failed else None) for name, failed in rows for clip in clips_of([name])]


def _chunks(plan: Plan, size: int, *, retry_failed: bool = False) -> list[tuple[int, str, bool]]:
    found = plan.chunks(size, retry_failed=retry_failed)
    return [(chunk.shard, "".join(clip.id for clip in chunk.clips), chunk.replaces) for chunk in found]


def test_missing_clips_go_to_unused_shards_in_source_order(plan: Plan) -> None:
    plan.add(clips_of("gfedcba"))
    plan.mark_done(0, _done(("e", False), ("g", True)))
    plan.mark_done(3, _done(("x", False)))
    assert _chunks(plan, 2) == [(1, "fd", False), (2, "cb", False), (4, "a", False)]
    assert (plan.clips, plan.done, plan.failures, plan.rows, plan.failed_rows) == (7, 2, {"not_a_video": 1}, 3, 1)


def test_failed_clips_are_retried_only_on_request_and_stay_in_their_shards(plan: Plan) -> None:
    plan.add(clips_of("abcd"))
    plan.mark_done(0, _done(("a", True), ("b", False)))
    plan.mark_done(1, _done(("c", True), ("x", True)))
    assert _chunks(plan, 9) == [(2, "d", False)]
    assert _chunks(plan, 9, retry_failed=True) == [(0, "a", True), (1, "c", True), (2, "d", False)]


def test_a_repeated_clip_is_processed_once(plan: Plan) -> None:
    plan.add(clips_of("abab"))
    assert (plan.clips, plan.repeats) == (2, 2)
    assert _chunks(plan, 9) == [(0, "ab", False)]


@pytest.mark.parametrize(
    ("other", "names"),
    [(ClipRef("a", "other.mp4"), "videos/a and other.mp4"), (ClipRef("a", "videos/a", 1.0), "two spans of videos/a")],
)
def test_an_id_of_two_clips_is_an_error(plan: Plan, other: ClipRef, names: str) -> None:
    with pytest.raises(ClipIdConflictError, match=f"'a' is used for {names}; give each clip a unique id"):
        plan.add([*clips_of("a"), other])


def test_a_clip_in_two_shards_is_an_error(plan: Plan) -> None:
    plan.mark_done(0, _done(("a", False)))
    with pytest.raises(ExtractError, match=r"shard 1 of .* has a clip that already has a row, in this or another"):
        plan.mark_done(1, _done(("a", False)))


def test_ids_must_keep_their_clips(plan: Plan) -> None:
    plan.add([ClipRef("a", "/new/a", 1.0), ClipRef("b", "/new/b")])
    plan.mark_done(0, [(ClipRef("b", "/old/b"), None), (ClipRef("x", "/old/x"), None)])
    with pytest.raises(
        ClipMovedError, match=r"has features of /old/b under the id 'b', .* /new/b; pass --moved .* another --out"
    ):
        plan.check_same(moved=False)
    plan.check_same(moved=True)
    plan.mark_done(1, [(ClipRef("a", "/new/a", 1.0, 2.0), "not_a_video")])
    with pytest.raises(ClipIdConflictError, match="has features of another span of /new/a under the id 'a'"):
        plan.check_same(moved=True)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputUnwritableError, match=f"{tmp_path / 'none'} cannot be written .* Free disk space"):
        Plan(tmp_path / "none")


@given(
    names=st.lists(st.text(min_size=1, max_size=3), max_size=30),
    done=st.dictionaries(st.text(min_size=1, max_size=3), st.booleans(), max_size=20),
    size=st.integers(1, 7),
    retry=st.booleans(),
)
def test_every_clip_is_either_done_or_still_to_do(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], done: dict[str, bool], size: int, retry: bool
) -> None:
    plan = Plan(tmp_path_factory.getbasetemp())
    plan.add(clips_of(names))
    plan.mark_done(0, _done(*done.items()))
    chunks = list(plan.chunks(size, retry_failed=retry))
    to_do = [clip.id for chunk in chunks for clip in chunk.clips]
    kept = {name for name, failed in done.items() if not (failed and retry)}
    assert sorted(to_do) == sorted(set(names) - kept)
    assert all(len(chunk.clips) <= size for chunk in chunks if not chunk.replaces)
    new = [chunk.shard for chunk in chunks if not chunk.replaces]
    assert new == [number for number in range(len(new) + 1) if number or not done][: len(new)]
    plan.close()
