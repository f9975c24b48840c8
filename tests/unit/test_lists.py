from __future__ import annotations

import csv
import io
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sefar_serve.lists import UNKNOWN, ListEntry, ListFileError, existing, parse_list, read_list, write_list

SEPARATORS = [" ", ",", ", ", "\t", "  ", " ,"]
ENDS = ["\n", "\r\n", "\n\n", " \n", "\r", "\r\r\n"]

# Anything but control characters and lone surrogates; a separator or a space at either end would be lost.
paths = st.text(
    st.one_of(
        st.characters(blacklist_categories=("Cc", "Cs"), blacklist_characters="\ufeff"), st.sampled_from(' ,."/\t\\')
    ),
    min_size=1,
    max_size=60,
).filter(lambda p: p == p.strip(" \t,") and not p.startswith('"'))
labels = st.integers(0, 999)


def _parsed(text: str, source: str = "list", *, unlabelled: bool = False) -> list[tuple[str, int]]:
    return list(parse_list(io.StringIO(text, newline=None), source, unlabelled=unlabelled))


@given(
    st.lists(st.tuples(paths, st.sampled_from(SEPARATORS), labels, st.sampled_from(ENDS))),
    st.booleans(),
    st.booleans(),
)
def test_reads_what_people_write(lines: list[tuple[str, str, int, str]], mark: bool, header: bool) -> None:
    text = "\ufeff" * mark + "path,label\n" * header
    text += "".join(f"{path}{gap}{label}{end}" for path, gap, label, end in lines)
    assert _parsed(text) == [(path, label) for path, _, label, _ in lines]
    assert _parsed(text, unlabelled=True) == _parsed(text)


@given(st.lists(st.tuples(paths, labels)), st.sampled_from([csv.QUOTE_NONNUMERIC, csv.QUOTE_ALL]))
def test_reads_what_csv_writers_write(rows: list[tuple[str, int]], quoting: int) -> None:
    file = io.StringIO(newline="")
    csv.writer(file, quoting=quoting).writerows([("video", "label"), *rows])
    assert _parsed(file.getvalue()) == rows


@given(st.lists(paths.filter(lambda p: not p.split()[-1:] or not p[-1].isdigit())))
def test_lists_of_unlabelled_clips_need_no_labels(names: list[str]) -> None:
    text = "".join(f"{name}{gap}\n" for name in names for gap in ("", " -1"))
    assert _parsed(text, unlabelled=True) == [(name, UNKNOWN) for name in names for _ in range(2)]


@pytest.mark.parametrize(
    "line", ["videos/a.mp4", "12", "videos/a.mp4 x", "videos/a12", " 7", "a.mp4 -1", '"a b.mp4"', "a 1.5"]
)
def test_error_names_a_line_without_path_or_label(line: str) -> None:
    with pytest.raises(ListFileError, match=r"mylist, line 3: .*is not `path label`"):
        _parsed(f"a.mp4 1\n\n{line}\n", "mylist")


@pytest.mark.parametrize("line", ["a.mp4 120 3", "a b.avi,120,3", '"a b.MKV 7",3', "a.mp4 12 30 5", "a.mp4,1.5,3,5"])
def test_error_says_how_to_remove_frame_counts(line: str) -> None:
    with pytest.raises(ListFileError, match=r"list, line 1: .*frame count.*print \$1, \$NF"):
        _parsed(line)


def test_a_clip_whose_line_ends_like_a_header_is_a_clip() -> None:
    assert _parsed("0 CLASS\n", unlabelled=True) == [("0 CLASS", UNKNOWN)]


@pytest.mark.parametrize(
    "header", ["path,label", "video label", '"path","class"', "File Name\tTarget", "clip_path class_id"]
)
def test_header_is_skipped_once(header: str) -> None:
    assert _parsed(f"\n{header}\na.mp4 1\n") == [("a.mp4", 1)]
    with pytest.raises(ListFileError, match="line 2"):
        _parsed(f"a.mp4 1\n{header}\n")


def test_paths_are_remapped_by_the_longest_prefix_and_joined_to_the_root(tmp_path: Path) -> None:
    file = tmp_path / "train.csv"
    file.write_text(
        "/root/video/a.mp4 1\n/root/video/hard/b c.mp4,2\r\nclips/d.mp4 3\nD:\\clips\\e.mp4 4\n", newline=""
    )
    entries = read_list(file, tmp_path, {"/root/video/": "v/", "/root/video/hard/": "/abs/", "D:/": ""})
    assert [(e.name, e.path, e.label) for e in entries] == [
        ("/root/video/a.mp4", tmp_path / "v/a.mp4", 1),
        ("/root/video/hard/b c.mp4", Path("/abs/b c.mp4"), 2),
        ("clips/d.mp4", tmp_path / "clips/d.mp4", 3),
        ("D:/clips/e.mp4", tmp_path / "clips/e.mp4", 4),
    ]


def test_empty_list_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "none.csv").write_text("\n\n")
    with pytest.raises(ListFileError, match=r"none\.csv lists no clips"):
        read_list(tmp_path / "none.csv", tmp_path)


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_error_names_a_wrong_encoding(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "list.csv").write_text("übung.mp4 1\n", encoding=encoding)
    with pytest.raises(ListFileError, match=r"list\.csv is not UTF-8 text .*save it as UTF-8"):
        read_list(tmp_path / "list.csv", tmp_path)


# Counted with awk, apart from the code under test: clips, classes, least and most clips of a class, highest label.
OFFICIAL = {
    "FX_S1_10/test": (777, 11, 28, 154, 10),
    "FX_S1_10/train": (189, 11, 3, 39, 10),
    "FX_S1_10/unlabel": (1703, 11, 64, 342, 10),
    "FX_S1_10/val": (777, 11, 28, 154, 10),
    "UB_10/test": (2814, 25, 27, 471, 24),
    "UB_10/total": (3773, 25, 39, 640, 24),
    "UB_10/train": (959, 25, 5, 169, 24),
    "UB_10/unlabel": (8635, 25, 82, 1454, 24),
    "UB_10/val": (2814, 25, 27, 471, 24),
    "all99_5/test": (8521, 99, 20, 471, 98),
    "all99_5/train": (1316, 99, 1, 97, 98),
    "all99_5/unlabel": (25004, 99, 45, 1526, 98),
    "all99_5/val": (8521, 99, 20, 471, 98),
    "list_finegym_new_10/test": (1998, 40, 1, 471, 39),
    "list_finegym_new_10/train": (651, 31, 1, 180, 39),
    "list_finegym_new_10/unlabel": (5857, 40, 2, 1443, 39),
    "list_finegym_new_10/val": (1998, 40, 1, 471, 39),
    "list_hmdb_40/test": (1530, 51, 30, 30, 50),
    "list_hmdb_40/train": (2094, 51, 23, 215, 50),
    "list_hmdb_40/unlabel": (3142, 51, 38, 303, 50),
    "list_hmdb_40/val": (1530, 51, 30, 30, 50),
    "list_ucf_1/test": (3783, 101, 28, 49, 100),
    "list_ucf_1/train": (101, 101, 1, 1, 100),
    "list_ucf_1/unlabel": (9436, 101, 71, 120, 100),
    "list_ucf_1/val": (3783, 101, 28, 49, 100),
    "list_ucf_5/test": (3783, 101, 28, 49, 100),
    "list_ucf_5/train": (477, 100, 1, 11, 100),
    "list_ucf_5/unlabe": (9060, 101, 66, 116, 100),
    "list_ucf_5/val": (3783, 101, 28, 49, 100),
}
PREFIXES = {
    "/root/video/": "",
    "/root/UCF-101/": "",
    "/root/hmdb51/": "",
    "/media/hyl/WD_BLACK/Datasets/Action_Recognition/FineGym/video/": "",
}


@pytest.fixture
def official(shared_data: Path) -> Path:
    return shared_data / "official" / "lists"


def test_no_list_of_the_release_is_forgotten(official: Path) -> None:
    found = {file.relative_to(official).with_suffix("").as_posix() for file in official.rglob("*.csv")}
    assert found == set(OFFICIAL)


@pytest.mark.parametrize("name", OFFICIAL)
def test_every_list_of_the_release_can_be_read(official: Path, name: str) -> None:
    entries = read_list(official / f"{name}.csv", Path("/videos"), PREFIXES)
    counts = [sum(1 for entry in entries if entry.label == label) for label in {entry.label for entry in entries}]
    figures = (len(entries), len(counts), min(counts), max(counts), max(entry.label for entry in entries))
    assert figures == OFFICIAL[name]
    assert len({entry.path for entry in entries}) == len(entries)
    for entry in entries:
        assert entry.path.suffix in {".mp4", ".avi"}
        assert entry.name.startswith(tuple(PREFIXES))
        assert not set(str(entry.path)) & set(",\r\t ")


def test_spans(tmp_path: Path) -> None:
    file = tmp_path / "spans.csv"
    file.write_bytes(b'\xef\xbb\xbfpath,label,start,end\r\n"a, b.mp4",3,1.5,2\r\n\r\nc.mp4,0,,4\r\nd.mp4,1,2,\r\n')
    assert [(e.name, e.label, e.start, e.end, e.is_span) for e in read_list(file, tmp_path)] == [
        ("a, b.mp4", 3, 1.5, 2.0, True),
        ("c.mp4", 0, None, 4.0, True),
        ("d.mp4", 1, 2.0, None, True),
    ]


@pytest.mark.parametrize(
    "line", ["a.mp4,0,1", "a.mp4,x,1,2", "a.mp4,0,2,1", "a.mp4,-1,0,1", "a.mp4,,0,1", "a.mp4,0,-1,2"]
)
def test_wrong_spans(tmp_path: Path, line: str) -> None:
    file = tmp_path / "spans.csv"
    file.write_text(f"path,label,start,end\n{line}\n")
    with pytest.raises(ListFileError, match=r"spans\.csv, line 2: "):
        read_list(file, tmp_path)


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="\\"), min_size=1)
BOUNDS = st.none() | st.floats(0, 1e4, allow_nan=False)


@settings(deadline=None)
@given(clips=st.lists(st.tuples(NAMES, st.integers(-1, 99), BOUNDS, st.booleans()), min_size=1, max_size=6))
def test_written_lists_are_read_back(
    clips: list[tuple[str, int, float | None, bool]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("lists")
    entries = [
        ListEntry(f"{name}.mp4", root / f"{name}.mp4", label, start, (start or 0.0) + 1 if ends else None)
        for name, label, start, ends in clips
    ]
    for written in (entries, [replace(entry, start=None, end=None) for entry in entries]):
        write_list(root / "list.csv", written)
        assert read_list(root / "list.csv", root, unlabelled=True) == written


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("columns", ["path,label", "path,label,start,end"])
def test_names_may_have_another_unicode_form_than_the_files(form: str, columns: str, tmp_path: Path) -> None:
    name = "Turnübung/élan 1.mp4"
    (tmp_path / unicodedata.normalize("NFC", "Turnübung")).mkdir()
    file = tmp_path / unicodedata.normalize("NFC", "Turnübung") / unicodedata.normalize("NFD", "élan 1.mp4")
    file.touch()
    written = unicodedata.normalize(form, name)
    (tmp_path / "list.csv").write_text(
        f"{columns}\n{written},3{',,' if 'start' in columns else ''}\n", encoding="utf-8"
    )
    [entry] = read_list(tmp_path / "list.csv", tmp_path)
    assert entry.path == file
    assert entry.name == written


@pytest.mark.parametrize("name", ["é" * 300, "é/" * 40, "missing é.mp4"])
def test_a_name_without_a_file_stays_as_written(name: str) -> None:
    assert existing(Path("/nowhere", name)) == Path("/nowhere", name)
