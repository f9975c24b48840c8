"""The dual-level sampler: the layouts of the paper and its release, and guarantees for any elements and any clip."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sefar_serve.sampling import Sampling, interleaved_segments, sample_indices

elements = st.lists(st.integers(1, 6), min_size=2, max_size=6).map(tuple)
layouts = st.sampled_from(["interleaved", "local", "ordered"])


def test_layout_of_the_authors_code() -> None:
    assert interleaved_segments([2, 2, 4]) == [[3, 7], [1, 5], [0, 2, 4, 6]]


@pytest.mark.parametrize(
    ("sample_frames", "dealt"),
    [
        ([4, 4], [[1, 3, 5, 7], [0, 2, 4, 6]]),
        ([1, 3], [[1], [0, 2, 3]]),
        ([1, 1, 1, 1], [[3], [2], [1], [0]]),
    ],
)
def test_other_elements(sample_frames: list[int], dealt: list[list[int]]) -> None:
    assert interleaved_segments(sample_frames) == dealt


def by_the_rule(sample_frames: list[int]) -> list[list[int]]:
    """The release's rule, taken literally, without the completion for uneven counts."""
    total, free, out = sum(sample_frames), set(range(sum(sample_frames))), []
    for n in reversed(sample_frames):
        taken: list[int] = []
        for j in range(total):
            if len(taken) < n and j in free and j >= len(taken) * total / n - 1e-9:
                taken.append(j)
        free -= set(taken)
        out.append(taken)
    return out[::-1]


@given(elements)
def test_every_segment_is_used_once_and_by_the_paper_s_rule_where_it_suffices(sample_frames: tuple[int, ...]) -> None:
    dealt = interleaved_segments(sample_frames)
    assert [len(segments) for segments in dealt] == list(sample_frames)
    assert sorted(j for segments in dealt for j in segments) == list(range(sum(sample_frames)))
    rule = by_the_rule(list(sample_frames))
    if [len(segments) for segments in rule] == list(sample_frames):
        assert dealt == rule


def test_middles_at_inference() -> None:
    assert sample_indices(80, Sampling()).tolist() == [35, 75, 15, 55, 5, 25, 45, 65]


def test_ordered_elements_follow_time() -> None:
    assert sample_indices(80, Sampling((1,) * 8, "ordered")).tolist() == [5, 15, 25, 35, 45, 55, 65, 75]
    drawn = sample_indices(80, Sampling((2, 2), "ordered"), np.random.default_rng(0))
    assert (drawn // 20).tolist() == [0, 1, 2, 3]


def test_local_elements_are_adjacent_frames_at_the_centres_of_their_windows() -> None:
    chosen = sample_indices(80, Sampling((3, 3, 4), "local")).tolist()
    assert chosen == [19, 20, 21, 59, 60, 61, 10, 30, 50, 70]


@given(elements, layouts, st.integers(1, 400), st.one_of(st.none(), st.integers(0, 2**32 - 1)))
def test_every_element_gets_its_frames_from_any_clip(
    sample_frames: tuple[int, ...], layout: str, frame_count: int, seed: int | None
) -> None:
    sampling = Sampling(sample_frames, layout)  # type: ignore[arg-type]

    def draw() -> np.ndarray:
        return sample_indices(frame_count, sampling, None if seed is None else np.random.default_rng(seed))

    chosen = draw()
    assert chosen.shape == (sampling.frames,)
    assert chosen.min() >= 0
    assert chosen.max() < frame_count
    assert (chosen == draw()).all()
    for element in range(sampling.elements):
        assert (np.diff(chosen[sampling.element_of_frame == element]) >= 0).all()
    if layout == "interleaved" and frame_count >= sampling.frames:
        assert len(set(chosen.tolist())) == sampling.frames


@given(st.integers(8, 300), st.integers(0, 2**32 - 1))
def test_random_frames_stay_in_their_segments(frame_count: int, seed: int) -> None:
    chosen = np.sort(sample_indices(frame_count, Sampling(), np.random.default_rng(seed)))
    for segment, frame in enumerate(chosen):
        assert segment * frame_count // 8 <= frame < (segment + 1) * frame_count // 8


def test_random_frames_cover_the_whole_segment() -> None:
    rng = np.random.default_rng(0)
    seen = {int(sample_indices(80, Sampling(), rng)[4]) for _ in range(400)}
    assert seen == set(range(10))


def test_a_clip_shorter_than_the_elements_repeats_frames() -> None:
    assert set(sample_indices(1, Sampling()).tolist()) == {0}
    assert set(sample_indices(3, Sampling()).tolist()) == {0, 1, 2}


def test_an_empty_clip_is_an_error() -> None:
    with pytest.raises(ValueError, match="0 frames"):
        sample_indices(0, Sampling())


@pytest.mark.parametrize("wrong", [(), (2, 0, 4), (-1, 4)])
def test_invalid_elements_are_refused(wrong: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="sample_frames"):
        Sampling(wrong)


def test_unknown_layouts_are_refused() -> None:
    with pytest.raises(ValueError, match="layout 'random'"):
        Sampling((2, 4), "random")  # type: ignore[arg-type]


def test_views_spread_evenly_over_each_segment() -> None:
    first, second = (np.sort(sample_indices(80, Sampling(), view=(k, 2))) for k in range(2))
    assert first.tolist() == [2, 12, 22, 32, 42, 52, 62, 72]
    assert second.tolist() == [7, 17, 27, 37, 47, 57, 67, 77]
    assert sample_indices(80, Sampling((3, 3, 4), "local"), view=(1, 2)).tolist() == [
        *(29, 30, 31),
        *(69, 70, 71),
        *(15, 35, 55, 75),
    ]


@given(elements, layouts, st.integers(1, 400), st.integers(1, 12))
def test_any_number_of_views_is_in_order_and_includes_the_middle(
    sample_frames: tuple[int, ...], layout: str, frame_count: int, views: int
) -> None:
    sampling = Sampling(sample_frames, layout)  # type: ignore[arg-type]
    chosen = np.stack([sample_indices(frame_count, sampling, view=(k, views)) for k in range(views)])
    assert chosen.shape == (views, sampling.frames)
    assert chosen.min() >= 0
    assert chosen.max() < frame_count
    assert (np.diff(chosen, axis=0) >= 0).all()
    for element in range(sampling.elements):
        assert (np.diff(chosen[:, sampling.element_of_frame == element], axis=1) >= 0).all()
    if layout == "interleaved":
        shown, segment = np.sort(chosen), np.arange(sampling.frames)
        assert ((shown + 1) * sampling.frames > segment * frame_count).all()
        assert (shown * sampling.frames < (segment + 1) * frame_count).all()
    if views % 2:
        assert (chosen[views // 2] == sample_indices(frame_count, sampling)).all()


@pytest.mark.parametrize("view", [(2, 2), (-1, 1), (0, 0)])
def test_a_view_out_of_range_is_refused(view: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="out of range"):
        sample_indices(80, Sampling(), view=view)
