from __future__ import annotations

import csv
import io
import json
import math
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sefar_serve.extract.clips import ClipRef, SourceError
from sefar_serve.extract.manifests import NamedClip, read_manifest
from sefar_serve.extract.source import read_source


def _write(file: Path, text: str) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8", newline="")
    return str(file)


def _read(source: str | Path, **options: object) -> list[ClipRef]:
    return list(read_source(str(source), **options))


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    for number, name in enumerate(["b.mp4", "a.MOV", "beam/c.webm", "beam/deep/d.avi", "notes.txt", ".hidden/e.mp4"]):
        _write(folder / name, "x" * number)
    _write(folder / "beam/.f.mp4", "")
    (folder / "linked.mp4").symlink_to(folder / "b.mp4")
    (folder / "loop").symlink_to(folder)
    return folder


@pytest.fixture
def bucket(videos: Path) -> Iterator[str]:
    """The videos on a file system that is not local."""
    files = fsspec.filesystem("memory")
    for file in videos.rglob("*"):
        if file.is_file() and not file.is_symlink():
            files.pipe_file(f"/bucket/{file.relative_to(videos)}", file.read_bytes())
    yield "memory://bucket"
    files.rm("/bucket", recursive=True)


def test_a_folder_gives_its_videos_in_order_with_their_sizes(videos: Path) -> None:
    assert _read(videos) == [
        ClipRef("a.MOV", f"{videos}/a.MOV", cost=1),
        ClipRef("b.mp4", f"{videos}/b.mp4", cost=0),
        ClipRef("linked.mp4", f"{videos}/linked.mp4", cost=0),
        ClipRef("beam/c.webm", f"{videos}/beam/c.webm", cost=2),
        ClipRef("beam/deep/d.avi", f"{videos}/beam/deep/d.avi", cost=3),
    ]


@pytest.mark.parametrize("name", ["a.gif", "b.MXF", "c.vob", "d.dv", "e.m2v", "f.3g2", "g.asf", "h.ivf"])
def test_a_folder_gives_videos_of_all_containers_that_can_be_read(name: str, tmp_path: Path) -> None:
    _write(tmp_path / name, "x")
    assert [clip.id for clip in _read(tmp_path)] == [name]


def test_names_in_a_manifest_may_have_another_unicode_form_than_the_files(tmp_path: Path) -> None:
    file = tmp_path / unicodedata.normalize("NFD", "Überschlag.mp4")
    file.write_bytes(b"x")
    manifest = _write(tmp_path / "list.csv", unicodedata.normalize("NFC", "path\nÜberschlag.mp4\n"))
    assert _read(manifest) == [ClipRef(unicodedata.normalize("NFC", "Überschlag.mp4"), str(file), cost=1)]


def test_paths_are_absolute_for_relative_sources(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(videos.parent)
    assert _read("videos") == _read(videos)
    assert _read("./videos/*.mp4") == _read(videos / "*.mp4")


def test_ids_from_a_glob_are_relative_to_its_fixed_folder(videos: Path) -> None:
    assert [(clip.id, clip.path) for clip in _read(f"{videos}/**/[cd].*")] == [
        ("beam/c.webm", f"{videos}/beam/c.webm"),
        ("beam/deep/d.avi", f"{videos}/beam/deep/d.avi"),
    ]
    assert [clip.id for clip in _read(f"{videos}/beam/*.webm")] == ["c.webm"]
    assert [clip.id for clip in _read(f"{videos}/*")] == ["a.MOV", "b.mp4", "linked.mp4", "notes.txt"]


def test_a_folder_name_may_have_glob_characters(tmp_path: Path) -> None:
    _write(tmp_path / "a[1]/b.mp4", "")
    assert [clip.id for clip in _read(tmp_path / "a[1]")] == ["b.mp4"]


def test_the_current_folder_may_have_glob_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path / "a[1]/deep/b.mp4", "")
    monkeypatch.chdir(tmp_path / "a[1]")
    for pattern, name in [("**/*.mp4", "deep/b.mp4"), ("deep/*", "b.mp4"), ("./deep/?.mp4", "b.mp4")]:
        assert _read(pattern) == [ClipRef(name, f"{tmp_path}/a[1]/deep/b.mp4")]


def test_an_object_name_may_have_glob_characters(bucket: str) -> None:
    fsspec.filesystem("memory").pipe_file("/bucket/b[1].mp4", b"1")
    assert _read(f"{bucket}/b[1].mp4") == [ClipRef("b[1].mp4", f"{bucket}/b[1].mp4", cost=1)]


def test_an_invalid_unicode_file_name_is_an_error(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.mp4")).touch()
    with pytest.raises(SourceError, match=r"udcff\.mp4' is not valid Unicode and cannot name a row; rename the file"):
        _read(tmp_path)


def test_one_video_is_one_clip(videos: Path) -> None:
    assert _read(videos / "a.MOV") == [ClipRef("a.MOV", f"{videos}/a.MOV", cost=1)]


def test_remote_folders_globs_and_videos(bucket: str) -> None:
    expected = [
        ClipRef("a.MOV", "memory:///bucket/a.MOV", cost=1),
        ClipRef("b.mp4", "memory:///bucket/b.mp4", cost=0),
        ClipRef("beam/c.webm", "memory:///bucket/beam/c.webm", cost=2),
        ClipRef("beam/deep/d.avi", "memory:///bucket/beam/deep/d.avi", cost=3),
    ]
    assert _read(bucket) == expected
    assert _read(f"{bucket}/**/[a-d].[Mmwa]*") == expected
    assert _read(f"{bucket}/beam/*.webm") == [ClipRef("c.webm", "memory:///bucket/beam/c.webm", cost=2)]
    assert _read(f"{bucket}/a.MOV") == [ClipRef("a.MOV", "memory://bucket/a.MOV", cost=1)]


def test_a_remote_manifest_may_have_relative_paths_urls_and_local_files(bucket: str) -> None:
    lines = ["path,id", "beam/c.webm,c", "ftp://other/x.mp4,", "/here/y.mp4,"]
    fsspec.filesystem("memory").pipe_file("/bucket/clips.csv", "\n".join(lines).encode())
    assert _read(f"{bucket}/clips.csv") == [
        ClipRef("c", "memory://bucket/beam/c.webm"),
        ClipRef("ftp://other/x.mp4", "ftp://other/x.mp4"),
        ClipRef("/here/y.mp4", "/here/y.mp4"),
    ]
    assert _read(f"{bucket}/clips.csv", root="ftp://mirror/")[0].path == "ftp://mirror/beam/c.webm"


def test_a_manifest_gives_spans_and_ids(videos: Path) -> None:
    file = _write(
        videos / "clips.csv",
        'id,split,Path,start,end\n7,train,b.mp4,1.5,3\n,train,b.mp4,,2\n,test,b.mp4,2.25,\n"x, y",,a.MOV,,\n\n',
    )
    assert _read(file) == [
        ClipRef("7", f"{videos}/b.mp4", 1.5, 3.0),
        ClipRef("b.mp4#t=,2", f"{videos}/b.mp4", None, 2.0),
        ClipRef("b.mp4#t=2.25", f"{videos}/b.mp4", 2.25, None),
        ClipRef("x, y", f"{videos}/a.MOV", cost=1),
    ]


def test_paths_of_a_manifest_start_from_the_root_with_their_prefix_replaced(videos: Path, tmp_path: Path) -> None:
    file = _write(tmp_path / "lists/clips.jsonl", '{"path": "/old/a.MOV"}\n\n{"url": "beam/c.webm", "id": 3}\n')
    assert _read(file, root=videos, remap={"/old/": ""}) == [
        ClipRef("/old/a.MOV", f"{videos}/a.MOV", cost=1),
        ClipRef("3", f"{videos}/beam/c.webm", cost=2),
    ]


@pytest.mark.parametrize("name", ["train.csv", "train.txt", "TRAIN.LIST"])
def test_list_files_with_or_without_labels(videos: Path, name: str) -> None:
    file = _write(videos.parent / name, "/root/video/b.mp4 12\n/root/video/not there.mp4 3\r\nbeam\\c.webm\n")
    assert _read(file, root=videos, remap={"/root/video/": ""}) == [
        ClipRef("/root/video/b.mp4", f"{videos}/b.mp4"),
        ClipRef("/root/video/not there.mp4", f"{videos}/not there.mp4"),
        ClipRef("beam/c.webm", f"{videos}/beam/c.webm", cost=2),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "path;start\na,b.mp4;1\n",
        "path\tstart\na,b.mp4\t1\n",
        '"path","start"\r\n"a,b.mp4",1\r\n',
        '\ufeff\npath,start\n"a,b.mp4",1',
    ],
)
def test_csv_from_spreadsheets(text: str, tmp_path: Path) -> None:
    [clip] = _read(_write(tmp_path / "clips.csv", text))
    assert (clip.path, clip.start) == (f"{tmp_path}/a,b.mp4", 1.0)


def test_parquet_from_pandas_with_missing_values(tmp_path: Path) -> None:
    table = pa.table({"url": ["ftp://b/a.mp4", "b.mp4"], "start": [math.nan, 1.0], "end": [None, 2], "id": [1.0, None]})
    pq.write_table(table, tmp_path / "clips.parquet")
    assert _read(tmp_path / "clips.parquet") == [
        ClipRef("1", "ftp://b/a.mp4"),
        ClipRef("b.mp4#t=1,2", f"{tmp_path}/b.mp4", 1.0, 2.0),
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "path,start\na.mp4,soon\n", r"a\.csv, line 2: start is 'soon'; write seconds"),
        ("a.csv", "path,start\na.mp4,-1\n", r"a\.csv, line 2: start is '-1'; write seconds, 0 or more"),
        ("a.csv", "path,end\na.mp4,inf\n", r"line 2: end is 'inf'"),
        ("a.csv", "path,start,end\n\na.mp4,5,3\n", r"line 3: the clip ends at 3 s, not after its start.*duration"),
        ("a.csv", "path,start\na,b.mp4,1\n", r"line 2 has more fields than the header; quote paths .* commas"),
        ("a.csv", 'path\n"a\nb.mp4\n', r"a\.csv, line \d: unexpected end of data; check that it is a CSV file"),
        ("a.csv", "path,start\n,1\n", r"line 2 has no path or url; give each clip one path"),
        ("a.csv", "path,url\na,b\n", r"line 2 has both a path and a url"),
        ("a.csv", "video,start\na.mp4,x\n", r"a\.csv has no column path or url \(it has video,start\); rename"),
        ("a.csv", "path\n", r"a\.csv contains no videos; add a row"),
        ("a.csv", "file_path,split\na.mp4,train\n", r"a\.csv has no column path or url \(it has file_path,split\)"),
        ("a.csv", f"path,start\na.mp4,{'9' * 400}\n", r"a\.csv, line 2: start is '9+'; write seconds"),
        ("a.csv", "path\ngs://bucket/a.mp4\n", r"gs://bucket/a\.mp4 cannot be opened: .*gcsfs"),
        ("a.jsonl", f"{'[' * 100_000}\n", r"a\.jsonl, line 1 is not JSON"),
        ("a.jsonl", '{"path": "\\ud800.mp4"}\n', r"ud800\.mp4' is not valid Unicode .* rename the file"),
        ("a.jsonl", '{"path": "a.mp4"}\n{"path": \n', r"a\.jsonl, line 2 is not JSON .*one object per line"),
        ("a.jsonl", '["a.mp4"]\n', r'line 1 is not a JSON object; write {"path"'),
        ("a.jsonl", '{"path": 5}\n', r"line 1 has 5 as its video"),
        ("a.jsonl", '{"path": "a", "id": [1]}\n', r"line 1: the id is \[1\]; write text"),
        ("a.jsonl", '{"path": "a", "start": true}\n', r"line 1: start is True"),
        ("a.parquet", "PAR1", r"a\.parquet cannot be read as Parquet"),
        ("a.txt", "a.mp4 120 3\n", r"a\.txt, line 1: .*frame count"),
        ("a.json", "{}", r"the suffix of .*a\.json is not that of a video, list or manifest; give a folder"),
    ],
)
def test_errors_name_the_line_and_the_fix(name: str, text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=message):
        _read(_write(tmp_path / name, text))


def test_text_that_is_not_utf8_is_an_error(tmp_path: Path) -> None:
    for name in ("a.csv", "b.jsonl", "c.txt"):
        (tmp_path / name).write_bytes(b"path\n\xff\xfe.mp4\n")
        with pytest.raises(SourceError, match=rf"{name} is not UTF-8 text .*save it as UTF-8"):
            _read(tmp_path / name)


def test_the_error_for_parquet_without_a_path_lists_its_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"video": ["a.mp4"], "label": [1]}), tmp_path / "a.parquet")
    with pytest.raises(SourceError, match=r"no column path or url \(it has video, label\); rename"):
        _read(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{}/none", "none does not exist; give a folder"),
        ("{}/empty", r"no videos found in .*empty; in a folder, file names must end in \.mp4 "),
        ("{}/*.mkv", r"no videos found in .*\*\.mkv"),
        ("s4://bucket/a", "s4://bucket/a cannot be read: Protocol not known: s4"),
        ("gs://bucket/a", "gs://bucket/a: .*gcsfs"),
        ("zip://a.mp4::s3://b/c.zip", "chains file systems, which is not supported; unpack it"),
        ("memory://none", "memory://none does not exist"),
        ("memory://none/*.mp4", "no videos found"),
    ],
)
def test_invalid_sources_are_named(source: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=message):
        _read(source.format(tmp_path))


_seconds = st.floats(0, 1e5).map(lambda value: round(value, 3))
_spans = st.one_of(
    st.just((None, None)),
    st.tuples(_seconds, st.none()),
    st.tuples(st.none(), _seconds.map(lambda value: value + 0.5)),
    st.tuples(_seconds, _seconds).map(lambda span: (span[0], sum(span) + 0.5)),
)
_names = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20)
_named = st.builds(lambda name, span, id_: NamedClip(name, *span, id_), _names, _spans, st.one_of(st.none(), _names))


def _values(clip: NamedClip) -> dict[str, object]:
    return {"path": clip.name, "start": clip.start, "end": clip.end, "id": clip.id, "other": 1}


@given(st.lists(_named, max_size=8))
def test_csv_json_and_parquet_manifests_are_equivalent(clips: list[NamedClip]) -> None:
    values = [_values(clip) for clip in clips]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ["id", "path", "start", "end", "other"])
    writer.writeheader()
    writer.writerows(values)
    table = io.BytesIO()
    schema = pa.schema(
        {"path": pa.string(), "start": pa.float64(), "end": pa.float64(), "id": pa.string(), "other": pa.int64()}
    )
    pq.write_table(pa.Table.from_pylist(values, schema), table)
    written = {
        "a.csv": text.getvalue().encode(),
        "a.jsonl": "".join(f"{json.dumps(row)}\n" for row in values).encode(),
        "a.parquet": table.getvalue(),
    }
    for name, content in written.items():
        assert list(read_manifest(lambda content=content: io.BytesIO(content), name)) == clips, name


@given(st.lists(_named, min_size=1, max_size=6), st.lists(_named, max_size=3))
def test_ids_stay_when_a_source_grows(
    tmp_path_factory: pytest.TempPathFactory, clips: list[NamedClip], more: list[NamedClip]
) -> None:
    file = tmp_path_factory.getbasetemp() / "grows.jsonl"
    file.write_text("".join(f"{json.dumps(_values(clip))}\n" for clip in clips))
    before = [clip.id for clip in _read(file)]
    file.write_text("".join(f"{json.dumps(_values(clip))}\n" for clip in more + clips))
    assert [clip.id for clip in _read(file)][len(more) :] == before
