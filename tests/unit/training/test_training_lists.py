from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sefar_training.data.lists import ListFileError, parse_list, read_list

paths = st.text(
    st.characters(blacklist_categories=("Cc", "Cs", "Zl", "Zp", "Zs"), blacklist_characters="\ufeff"),
    min_size=1,
).filter(lambda p: p[-1] not in "0123456789," and p.strip() == p)


@given(
    st.lists(
        st.tuples(
            st.lists(paths, min_size=1, max_size=3).map(" ".join),
            st.sampled_from([" ", ",", ", ", "\t", "  "]),
            st.integers(0, 10**6),
            st.sampled_from(["\n", "\r\n", "\n\n", " \n"]),
        )
    ),
    st.booleans(),
)
def test_reads_what_people_write(lines: list[tuple[str, str, int, str]], mark: bool) -> None:
    text = "\ufeff" * mark + "".join(f"{path}{gap}{label}{end}" for path, gap, label, end in lines)
    assert parse_list(text) == [(path, label) for path, _, label, _ in lines]


@pytest.mark.parametrize("line", ["videos/a.mp4", "12", "videos/a.mp4 x", "videos/a12", " 7"])
def test_line_without_path_or_label_is_named(line: str) -> None:
    with pytest.raises(ListFileError, match=r"mylist, line 3: .*is not `path label`"):
        parse_list(f"a.mp4 1\n\n{line}\n", "mylist")


def test_paths_are_remapped_by_the_longest_prefix_and_joined_to_the_root(tmp_path: Path) -> None:
    file = tmp_path / "train.csv"
    file.write_text("/root/video/a.mp4 1\n/root/video/hard/b c.mp4,2\r\nclips/d.mp4 3\n", newline="")
    entries = read_list(file, tmp_path, {"/root/video/": "v/", "/root/video/hard/": "/abs/"})
    assert [(e.name, e.path, e.label) for e in entries] == [
        ("/root/video/a.mp4", tmp_path / "v/a.mp4", 1),
        ("/root/video/hard/b c.mp4", Path("/abs/b c.mp4"), 2),
        ("clips/d.mp4", tmp_path / "clips/d.mp4", 3),
    ]


def test_empty_list_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "none.csv").write_text("\n\n")
    with pytest.raises(ListFileError, match=r"none\.csv lists no clips"):
        read_list(tmp_path / "none.csv", tmp_path)


def test_every_list_of_the_release_reads(shared_data: Path) -> None:
    files = sorted((shared_data / "official" / "lists").rglob("*.csv"))
    assert len(files) >= 28
    for file in files:
        entries = read_list(file, Path("/videos"), {"/root/video/": ""})
        assert len(entries) == sum(1 for line in file.read_bytes().split(b"\n") if line.strip())
        assert all(e.path.suffix in {".mp4", ".avi"} for e in entries)
