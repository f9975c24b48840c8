from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from sefar_training.start import CollectionError, Row
from sefar_training.start.grouping import by_names, find_groups
from sefar_training.start.leak import probe_leaks
from sefar_training.start.look import HEIGHT, WIDTH, ClipLook, look_at, same_bytes
from sefar_training.start.similar import UnionFind, look_alikes, members, near_duplicates
from sefar_training.start.split import make_folds

from start_videos import film  # isort: skip


def seen(place: int, seed: int, dot: tuple[int, int] = (0, 0)) -> ClipLook:
    """A clip whose pictures are a pattern that its place has, with noise and a dot."""
    pattern = np.random.default_rng(1000 + place).integers(40, 215, (4, 6, 3)).astype(np.uint8)
    large = cv2.resize(pattern, (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST).astype(np.int64)
    rng = np.random.default_rng((seed, place))
    pictures = []
    for _ in range(2):
        noisy = np.clip(large + rng.normal(0, 6, large.shape), 0, 255).astype(np.uint8)
        noisy[dot[0] : dot[0] + 6, dot[1] : dot[1] + 6] = 255
        pictures.append(noisy)
    return ClipLook(None, None, False, 10, 1.0, *pictures)


def test_union_find() -> None:
    sets = UnionFind(6)
    for a, b in ((4, 5), (0, 4), (2, 3)):
        sets.join(a, b)
    assert sets.groups().tolist() == [0, 1, 2, 2, 0, 0]
    assert members(sets.groups(), least=2) == [[0, 4, 5], [2, 3]]


def test_places_are_found() -> None:
    places = [n % 5 for n in range(30)]
    found = look_alikes([seen(place, seed) for seed, place in enumerate(places)])
    assert found.threshold is not None
    assert len(set(zip(places, found.groups.tolist(), strict=True))) == 5
    assert len(set(found.groups.tolist())) == 5


def test_more_clips_than_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sefar_training.start.similar.COMPARED", 20)
    places = [n % 4 for n in range(60)]
    found = look_alikes([seen(place, seed) for seed, place in enumerate(places)])
    assert len(set(zip(places, found.groups.tolist(), strict=True))) == 4


def test_one_place_is_not_divided() -> None:
    looks = [seen(0, seed) for seed in range(10)]
    assert look_alikes(looks).threshold is None
    groups = find_groups([Row(f"{chr(97 + n)}.mp4", "x") for n in range(10)], looks)
    assert (groups.count, groups.why) == (1, "all clips look as if they were from one place")


def test_near_duplicates() -> None:
    looks = [seen(0, 0), seen(1, 1), seen(0, 2), seen(0, 3, dot=(20, 20)), seen(2, 4)]
    assert near_duplicates(looks) == [[0, 2]]


def test_given_groups_and_copies() -> None:
    rows = [
        Row("a.mp4", "x", group="one"),
        Row("b.mp4", "x", group="two"),
        Row("c.mp4", "y", group="three"),
        Row("d.mp4"),
    ]
    groups = find_groups(rows, [], copies=[["a.mp4", "c.mp4"]])
    assert groups.of.tolist() == [0, 1, 0, 2]
    assert (groups.names, groups.how, groups.merged) == (("one", "two", "d.mp4"), "given", 1)
    assert "1 clips without a group stand alone" in groups.why


def test_spans_of_a_file_stay_together() -> None:
    rows = [Row(f"{v}.mp4", "x", float(n), n + 1.0) for v in "abc" for n in range(4)]
    looks = [seen(place, n) for place in range(3) for n in range(4)]
    assert find_groups(rows, looks).of.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert find_groups(rows, looks, rule="none").count == 12
    assert find_groups(rows, looks, rule="files").count == 3


def test_names_that_tell_the_recording() -> None:
    rows = [
        Row(f"{label}/2020_{day}_{n:04d}.mp4", label) for label in ("run", "sit") for day in range(3) for n in range(4)
    ]
    assert by_names(rows) == [f"2020_{day}" for _ in range(2) for day in range(3) for _ in range(4)]
    assert find_groups(rows, []).how == "names"
    # names of classes are no places
    assert by_names([Row(f"{label}/{label}_{n}.mp4", label) for label in ("a", "b", "c") for n in range(9)]) is None
    assert by_names([Row("run/x.mp4", "run")]) is None


def test_a_pattern_for_groups() -> None:
    rows = [Row(f"run/p{n % 3}-{n}.mp4", "run") for n in range(6)]
    assert find_groups(rows, [], rule=r"(p\d)-").names == ("p0", "p1", "p2")
    with pytest.raises(CollectionError, match=r"does not match run/p0-0\.mp4"):
        find_groups(rows, [], rule="q")
    with pytest.raises(CollectionError, match="no regular expression"):
        find_groups(rows, [], rule="(")


def leak(class_of: Callable[[int, int], int]) -> tuple[bool, bool, bool]:
    """Whether first frames tell the class of 60 clips in 12 places: of the same places, of new ones, by the border."""
    clips = [(n % 12, n) for n in range(60)]
    labels = np.array([class_of(place, n) for place, n in clips])
    looks = [seen(place, n) for place, n in clips]
    probe = probe_leaks(looks, labels, make_folds(labels, np.array([place for place, _ in clips])))
    assert probe is not None
    assert probe.chance == 1 / 3
    return probe.tells(probe.same_places), probe.tells(probe.new_places), probe.tells(probe.border)


def test_a_class_for_each_place_leaks() -> None:
    assert leak(lambda place, n: place % 3) == (True, False, True)


def test_classes_in_all_places_do_not() -> None:
    assert leak(lambda place, n: (n // 12 + place * 7) % 3)[1:] == (False, False)


def test_a_watermark_leaks_in_new_places_too() -> None:
    labels = np.arange(60) % 3
    places = np.arange(60) // 5
    looks = [seen(int(p), n, dot=(42, 20 * int(k))) for n, (p, k) in enumerate(zip(places, labels, strict=True))]
    probe = probe_leaks(looks, labels, make_folds(labels, places))
    assert probe is not None
    assert probe.tells(probe.new_places)
    assert probe.tells(probe.border)


def test_what_cannot_be_probed() -> None:
    labels = np.array([0, 0, 0, 1])
    assert probe_leaks([seen(0, n) for n in range(4)], labels, make_folds(labels, np.arange(4))) is None


def test_files_are_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, cache = tmp_path / "clips", tmp_path / "cache"
    film(root / "a.mp4", frames=25)
    (root / "b.mp4").write_bytes(b"")
    rows = [
        Row("a.mp4", start=0.0, end=0.4),
        Row("a.mp4", start=0.4),
        Row("a.mp4", start=3.0),
        Row("b.mp4"),
        Row("c.mp4"),
    ]
    looks = look_at(root, rows, cache, threads=1, progress=False)
    assert [look.frames for look in looks] == [10, 15, 0, 0, 0]
    assert looks[0].file is not None
    assert (looks[0].file.fps, looks[0].file.width, looks[0].file.height) == (25.0, 96, 64)
    assert looks[1].seconds == pytest.approx(0.6)
    reasons = [look.reason or "" for look in looks]
    assert reasons[:2] == ["", ""]
    assert "span begins at 3.0 s, but the file lasts" in reasons[2]
    assert "the file is empty" in reasons[3]
    assert "does not exist" in reasons[4]

    def again(*arguments: object) -> None:
        raise AssertionError("opened again")

    monkeypatch.setattr("sefar_training.start.look._open", again)
    kept = look_at(root, rows, cache, threads=1, progress=False)
    assert [look.reason for look in kept] == [look.reason for look in looks]
    assert kept[1].middle is not None
    assert looks[1].middle is not None
    assert (kept[1].middle == looks[1].middle).all()
    (root / "b.mp4").write_bytes(b"more")
    with pytest.raises(AssertionError, match="opened again"):
        look_at(root, rows, cache, threads=1, progress=False)


def test_copies_of_a_file(tmp_path: Path) -> None:
    for name, data in (("a", b"12"), ("b", b"34"), ("c", b"12"), ("d", b"123")):
        (tmp_path / name).write_bytes(data)
    assert same_bytes(tmp_path, ["a", "b", "c", "d", "a", "none"]) == [["a", "c"]]
