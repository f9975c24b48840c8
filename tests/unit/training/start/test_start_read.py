from __future__ import annotations

import csv
import io
import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from start_videos import film

from sefar_training.start import CollectionError, Format, Row, read_collection
from sefar_training.start.rows import read_seconds
from sefar_training.start.table import csv_delimiter, read_label


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"video")
    return root


def rows_of(place: Path, **options: Any) -> list[tuple[Any, ...]]:
    found = read_collection(place, **options)
    return [(row.name, row.label, row.start, row.end, row.group, row.split) for row in found.rows]


def test_class_folders(tmp_path: Path) -> None:
    touch(tmp_path, "walk/a.mp4", "walk/lab/b.MOV", "run/lab/day 2/c.Mkv", ".hidden/d.mp4", "walk/note.txt", "e.webm")
    found = read_collection(tmp_path)
    assert (found.format, found.labels) == ("folders", ("run", "walk"))
    assert list(found.rows) == [
        Row("e.webm"),
        Row("run/lab/day 2/c.Mkv", "run", group="lab/day 2"),
        Row("walk/a.mp4", "walk"),
        Row("walk/lab/b.MOV", "walk", group="lab"),
    ]


@pytest.mark.parametrize("written", ["Überschlag.mp4", "/server/uploads/Überschlag.mp4", "überschlag"])
def test_names_in_a_table_may_have_another_unicode_form_than_the_files(written: str, tmp_path: Path) -> None:
    name = unicodedata.normalize("NFD", "Überschlag.mp4")
    touch(tmp_path, name)
    rows = f"path,label\n{unicodedata.normalize('NFC', written)},vault\n"
    (tmp_path / "clips.csv").write_text(rows, encoding="utf-8")
    [row] = read_collection(tmp_path).rows
    assert (row.name, row.label) == (name, "vault")


def test_split_folders(tmp_path: Path) -> None:
    touch(tmp_path, "train/walk/x/a.mp4", "Validation/walk/b.mp4", "test/run/c.mp4", "unlabeled/y/d.mp4")
    assert rows_of(tmp_path) == [
        ("Validation/walk/b.mp4", "walk", None, None, None, "val"),
        ("test/run/c.mp4", "run", None, None, None, "test"),
        ("train/walk/x/a.mp4", "walk", None, None, "x", "train"),
        ("unlabeled/y/d.mp4", None, None, None, "y", "unlabelled"),
    ]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    touch(tmp_path, "train/a.mp4", "bus/b.mp4", "unlabelled/c.mp4")
    assert [(name, label) for name, label, *_ in rows_of(tmp_path)] == [
        ("bus/b.mp4", "bus"),
        ("train/a.mp4", "train"),
        ("unlabelled/c.mp4", None),
    ]


def test_splits_beside_classes_are_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "train/walk/a.mp4", "val/walk/b.mp4", "jump/c.mp4")
    with pytest.raises(CollectionError, match="train, val beside jump; move"):
        read_collection(tmp_path)


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match="has no videos"):
        read_collection(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist; give a folder"):
        read_collection(tmp_path / "none")


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_tables_with_usual_columns(tmp_path: Path, mark: str) -> None:
    touch(tmp_path, "a.mp4", "b c.mp4")
    lines = ["Video Name,Action,Start Time,end_time,Subject,subset", "a.mp4,jump,1:02.5,63,p1,Training", "b c.mp4,,,,,"]
    (tmp_path / "t.csv").write_text("\ufeff" + "\r\n".join(lines).replace(",", mark), encoding="utf-8", newline="")
    expected = [("a.mp4", "jump", 62.5, 63.0, "p1", "train"), ("b c.mp4", None, None, None, None, None)]
    assert rows_of(tmp_path / "t.csv") == expected
    assert rows_of(tmp_path) == expected  # found in its folder


RECORDS = [
    {"path": "a.mp4", "label": 10, "start": 0.5, "end": 2.0, "group": "g", "split": "test"},
    {"path": "b.mp4", "label": 9, "start": None, "end": None, "group": None, "split": None},
    {"path": "c.mp4", "label": None, "start": None, "end": None, "group": None, "split": None},
]


@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
def test_tables_of_other_kinds(tmp_path: Path, suffix: str) -> None:
    file = touch(tmp_path, "a.mp4", "b.mp4", "c.mp4") / f"t.{suffix}"
    if suffix == "parquet":
        pandas = pytest.importorskip("pandas")
        pandas.DataFrame(RECORDS).to_parquet(file)  # labels become 10.0, 9.0, NaN
    elif suffix == "json":
        file.write_text(json.dumps(RECORDS))
    else:
        file.write_text("\n".join(map(json.dumps, RECORDS)))
    assert rows_of(file) == [
        ("a.mp4", "10", 0.5, 2.0, "g", "test"),
        ("b.mp4", "9", None, None, None, None),
        ("c.mp4", None, None, None, None, None),
    ]
    assert read_collection(file).labels == ("9", "10")


def test_numbers_get_their_names(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b.mp4")
    (tmp_path / "t.csv").write_text("path,label\na.mp4,1\nb.mp4,0\n")
    assert "labels.txt" in read_collection(tmp_path).notes[0]
    (tmp_path / "labels.txt").write_text("run\nwalk\n")
    assert [row.label for row in read_collection(tmp_path).rows] == ["walk", "run"]
    (tmp_path / "labels.txt").write_text("run\n")
    with pytest.raises(CollectionError, match="no name for class 1"):
        read_collection(tmp_path)


def test_every_wrong_row_is_reported(tmp_path: Path) -> None:
    lines = [*(f"{n}.mp4,x,{n},{n - 1},train" for n in range(1, 6)), ",x,,,", "a.mp4,x,,,holiday", "b.mp4,x,-1,,"]
    (tmp_path / "t.csv").write_text("path,label,start,end,split\n" + "\n".join(lines))
    with pytest.raises(CollectionError) as raised:
        read_collection(tmp_path / "t.csv")
    assert len(raised.value.problems) == 8
    message = str(raised.value)
    assert "8 rows are wrong" in message
    assert "t.csv, line 2: the clip ends at 0 s, not after its start at 1 s" in message
    assert message.endswith("and 3 more")
    assert "write train, val, test or unlabelled" in str(raised.value.problems[6])


def test_official_lists(tmp_path: Path) -> None:
    touch(tmp_path, "v/a b.mp4", "v/b.mp4", "v/c.mp4")
    (tmp_path / "train.csv").write_bytes(b"v/a b.mp4 3\r\nv/b.mp4,0\r\n")
    (tmp_path / "unlabe.csv").write_text("v/c.mp4 -1\n")
    found = read_collection(tmp_path)
    assert (found.format, found.labels) == ("list", ("0", "3"))
    assert rows_of(tmp_path) == [
        ("v/a b.mp4", "3", None, None, None, "train"),
        ("v/b.mp4", "0", None, None, None, "train"),
        ("v/c.mp4", None, None, None, None, "unlabelled"),
    ]


def test_several_tables_need_a_choice(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    for name in ("one.csv", "two.csv"):
        (tmp_path / name).write_text("path,label\na.mp4,x\n")
    with pytest.raises(CollectionError, match=r"several tables: one.csv \(table\), two.csv \(table\)"):
        read_collection(tmp_path)
    assert len(read_collection(tmp_path / "one.csv").rows) == 1


def test_activitynet(tmp_path: Path) -> None:
    touch(tmp_path, "videos/v_abc.mp4", "videos/def.mkv")
    data = {
        "version": "1.3",
        "taxonomy": [],
        "database": {
            "abc": {
                "subset": "training",
                "duration": 9.0,
                "annotations": [{"segment": [0.5, 2], "label": "Long jump"}, {"segment": [3, 4.5], "label": "Run"}],
            },
            "def": {"subset": "testing", "annotations": []},
        },
    }
    (tmp_path / "activity_net.v1-3.json").write_text(json.dumps(data))
    assert read_collection(tmp_path).format == "activitynet"
    assert rows_of(tmp_path) == [
        ("videos/v_abc.mp4", "Long jump", 0.5, 2.0, None, "train"),
        ("videos/v_abc.mp4", "Run", 3.0, 4.5, None, "train"),
        ("videos/def.mkv", None, None, None, None, "test"),
    ]
    data["database"]["abc"]["annotations"] = [{"segment": [2, 1], "label": "x"}, {"label": "y"}]  # type: ignore[index]
    (tmp_path / "bad.json").write_text(json.dumps(data))
    with pytest.raises(CollectionError, match="video abc, annotation 1: the clip ends") as raised:
        read_collection(tmp_path / "bad.json")
    assert len(raised.value.problems) == 2


def test_label_studio(tmp_path: Path) -> None:
    film(tmp_path / "videos" / "a.mp4", frames=30)
    value = {"ranges": [{"start": 1, "end": 5}, {"start": 6, "end": 30}], "timelinelabels": ["jump"]}
    results = [
        {"type": "timelinelabels", "from_name": "tl", "to_name": "video", "value": value},
        {"type": "videorectangle", "value": {"sequence": [], "labels": ["person"]}},
        {"type": "labels", "value": {"start": 0.2, "end": 0.4, "channel": 0, "labels": ["run"]}},
    ]
    tasks = [
        {
            "id": 7,
            "data": {"video": "/data/upload/1/0a1b2c3d-a.mp4"},
            "annotations": [{"was_cancelled": True, "result": results}, {"was_cancelled": False, "result": results}],
        },
        {"id": 8, "data": {"video": "/data/local-files/?d=videos/a.mp4"}, "annotations": []},
    ]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    found = rows_of(tmp_path)
    assert read_collection(tmp_path).format == "label-studio"
    assert found == [
        ("videos/a.mp4", "jump", 0.0, pytest.approx(0.2), None, None),
        ("videos/a.mp4", "jump", pytest.approx(0.2), pytest.approx(1.2), None, None),
        ("videos/a.mp4", "run", 0.2, 0.4, None, None),
        ("videos/a.mp4", None, None, None, None, None),
    ]
    least = [{"id": 1, "annotation_id": 3, "video": "videos/a.mp4", "choice": "jump"}]
    least += [{"id": 1, "annotation_id": 4, "video": "videos/a.mp4", "tl": [value]}]  # type: ignore[dict-item]
    (tmp_path / "min.json").write_text(json.dumps(least))
    assert [row[1:4] for row in rows_of(tmp_path / "min.json")] == [
        ("jump", None, None),
        *[row[1:4] for row in found[:2]],
    ]


VIA = """# Exported using VGG Image Annotator (http://www.robots.ox.ac.uk/~vgg/software/via)
# SHAPE_ID = {"POINT":1,"RECTANGLE":2}
# ATTRIBUTE = {"1":{"aname":"TEMPORAL-SEGMENTS","anchor_id":"FILE1_Z2_XY0","type":4,"options":{"0":"jump","1":"run"}}}
# CSV_HEADER = metadata_id,file_list,flags,temporal_coordinates,spatial_coordinates,metadata
"1_a","[""a, b.mp4""]",0,"[1.125,5.5]","[]","{""1"":""0""}"
"1_b","[""a, b.mp4""]",0,"[6,7]","[]","{""1"":""walk""}"
"1_c","[""a, b.mp4""]",0,"[2.5]","[2,1,1,9,9]","{""4"":""0""}"
"""


def test_via(tmp_path: Path) -> None:
    touch(tmp_path, "a, b.mp4")
    (tmp_path / "via.csv").write_text(VIA)
    assert read_collection(tmp_path).format == "via"
    assert rows_of(tmp_path) == [
        ("a, b.mp4", "jump", 1.125, 5.5, None, None),
        ("a, b.mp4", "walk", 6.0, 7.0, None, None),
    ]
    (tmp_path / "via.csv").write_text(VIA + '"1_d","[""a.mp4""]",0,"[3,nan",,\n')
    with pytest.raises(CollectionError, match="line 8: not a line of VIA's export"):
        read_collection(tmp_path)


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><id>5</id><name>t</name><size>10</size>
<start_frame>2</start_frame><frame_filter>step=2</frame_filter><subset>Train</subset></task>
<source>a.mp4</source></meta>{}</annotations>"""


def test_cvat(tmp_path: Path) -> None:
    film(tmp_path / "a.mp4", frames=25)
    boxes = "".join(f'<box frame="{n}" outside="{int(n in (3, 9))}" keyframe="1"/>' for n in (1, 2, 3, 6, 8, 9))
    (tmp_path / "video.xml").write_text(CVAT.format(f'<track id="0" label="jump">{boxes}</track>'))
    assert rows_of(tmp_path) == [
        ("a.mp4", "jump", pytest.approx(4 / 25), pytest.approx(8 / 25), None, "train"),
        ("a.mp4", "jump", pytest.approx(14 / 25), pytest.approx(20 / 25), None, "train"),
    ]
    tags = "".join(f'<image id="{n}" name="f"><tag label="run"/></image>' for n in (0, 1, 2, 5))
    (tmp_path / "video.xml").write_text(CVAT.format(tags))
    assert [row[1:4] for row in rows_of(tmp_path)] == [
        ("run", pytest.approx(2 / 25), pytest.approx(8 / 25)),
        ("run", pytest.approx(12 / 25), pytest.approx(14 / 25)),
    ]
    (tmp_path / "video.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]>' + CVAT.format("").split("?>")[1])
    with pytest.raises(CollectionError, match="declares entities"):
        read_collection(tmp_path / "video.xml", format="cvat")


def test_fiftyone(tmp_path: Path) -> None:
    film(tmp_path / "data" / "a.mp4", frames=25)
    touch(tmp_path, "data/b.mp4")
    labels = {
        "classes": ["jump", "run"],
        "labels": {
            "a": [{"label": 0, "support": [1, 5]}, {"label": 1, "timestamps": [0.4, 0.6]}],
            "b": None,
        },
    }
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    assert read_collection(tmp_path).format == "fiftyone"
    assert rows_of(tmp_path) == [
        ("data/a.mp4", "jump", 0.0, pytest.approx(0.2), None, None),
        ("data/a.mp4", "run", 0.4, 0.6, None, None),
        ("data/b.mp4", None, None, None, None, None),
    ]
    (tmp_path / "labels.json").unlink()
    detection = {"_cls": "TemporalDetection", "label": "run", "support": [11, 25]}
    sample = {"filepath": "/home/me/data/a.mp4", "tags": ["validation"], "metadata": {"frame_rate": 25}}
    sample["events"] = {"_cls": "TemporalDetections", "detections": [detection]}
    (tmp_path / "samples.json").write_text(json.dumps({"samples": [sample, {"filepath": "data/b.mp4"}]}))
    assert rows_of(tmp_path) == [
        ("data/a.mp4", "run", pytest.approx(0.4), pytest.approx(1.0), None, "val"),
        ("data/b.mp4", None, None, None, None, None),
    ]


def test_two_files_of_one_name(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.mp4", "y/a.mp4")
    (tmp_path / "t.csv").write_text("path,label\na.mp4,run\n")
    with pytest.raises(CollectionError, match=r"several files have its name: x/a.mp4, y/a.mp4"):
        read_collection(tmp_path)


def test_a_format_that_is_forced_must_fit(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text("[]")
    with pytest.raises(CollectionError, match="not in the format activitynet"):
        read_collection(tmp_path / "t.json", format="activitynet")
    with pytest.raises(CollectionError, match="has no format that we know"):
        read_collection(tmp_path / "t.json")


WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="\\/"), min_size=1, max_size=12
)
TIMES = st.floats(0, 1e5, allow_nan=False).map(lambda value: round(value, 3))


@settings(deadline=None)
@given(rows=st.lists(st.tuples(WORDS, st.none() | WORDS, st.none() | TIMES, st.none() | WORDS), min_size=1, max_size=8))
def test_what_csv_writes_is_read_back(rows: list[tuple[Any, ...]], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("table")
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["path", "label", "start", "end", "group"])
    for name, label, start, group in rows:
        writer.writerow([f"{name}.mp4", label, start, None if start is None else start + 1, group])
    (folder / "t.csv").write_text(text.getvalue(), encoding="utf-8", newline="")
    found = read_collection(folder / "t.csv").rows
    for (name, label, start, group), row in zip(rows, found, strict=True):
        assert row.name == f"{name}.mp4"
        assert (row.label, row.group) == (None if label == "-1" else label, group)
        assert (row.start, row.end) == (start, None if start is None else start + 1)


@given(st.integers(0, 99), st.integers(0, 59), st.floats(0, 59.99).map(lambda value: round(value, 2)))
def test_clock_times(hours: int, minutes: int, seconds: float) -> None:
    assert read_seconds(f"{hours}:{minutes:02d}:{seconds:05.2f}", "start") == pytest.approx(
        3600 * hours + 60 * minutes + seconds
    )


@pytest.mark.parametrize("value", ["abc", "-1", "1:-2", True, "inf", [1], "1:2:3:4"])
def test_what_is_no_time(value: object) -> None:
    with pytest.raises(ValueError, match=r"start is .*; write seconds"):
        read_seconds(value, "start")


def test_what_is_a_label() -> None:
    assert [read_label(value) for value in (3, 3.0, "3", " a b ", -1, "", None, float("nan"))] == [
        *("3", "3", "3", "a b"),
        *[None] * 4,
    ]
    with pytest.raises(ValueError, match="write one class name"):
        read_label(["a"])


@pytest.mark.parametrize("format", [None, "table"])
def test_a_table_without_a_path_or_empty_is_said_to_be_so(tmp_path: Path, format: Format | None) -> None:
    (tmp_path / "nopath.csv").write_text("video_x,label\na.mp4,b\n")
    (tmp_path / "empty.csv").touch()
    with pytest.raises(CollectionError, match=r"no column with the path of the video \(it has video_x, label\)"):
        read_collection(tmp_path / "nopath.csv", format=format)
    with pytest.raises(CollectionError, match=r"empty\.csv is empty"):
        read_collection(tmp_path / "empty.csv", format=format)


def test_what_is_a_header() -> None:
    assert csv_delimiter("path,label") == ","
    assert csv_delimiter('"File Name";"Class"') == ";"
    assert csv_delimiter("a.mp4,3") is None
    assert csv_delimiter("frame,x,y") is None
