"""Segments for other programs: what these programs read back, also with hostile labels and file names."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest

from sefar_client import Classification, format_segments
from sefar_client.segment_formats import SegmentFormat

HOSTILE = [
    'a "quoted", label',
    "<b>&amp;</b>",
    "00:00:01.000 --> 00:00:02.000\n\nsecond cue",
    "line\r\nbreak\u2028and\tmore",
    "nul\x00 bell\x07 escape\x1b[31m \ud800 \ufffe",
    "]]> <!-- -->",
    "=1+1",
    "сальто 空翻",
]
FORMATS: list[SegmentFormat] = ["csv", "vtt", "label-studio", "elan"]


def answer(
    *segments: tuple[float, float, str, float], name: str = "meet.mp4", rate: float | None = 25.0
) -> Classification:
    """What `classify` returns."""
    frames = [{"index": i, "time": i / rate, "element": "context"} for i in (10, 60)] if rate else []
    clip: dict[str, Any] = {
        **dict.fromkeys(("frame_count", "duration", "width", "height", "stream"), 1),
        "frames": frames,
        "corrupt_frames": [],
        "warnings": [],
    }
    merged = [
        {"start": start, "end": end, "label": label, "index": 0, "score": score}
        for start, end, label, score in segments
    ]
    fields = {"object": "classification", "index": 0, "name": name, "clip_id": None, "labels": [], "reliability": 1.0}
    usage = {"prompt_tokens": 1, "total_tokens": 1, "clips": 1}
    about = {"model": "m", "version": "1", "usage": usage}
    return Classification.model_validate(fields | {"clip": clip, "timeline": None, "segments": merged} | about)


TWO = ((0.0, 1.24, "jump", 0.9), (1.24, 3661.0005, "turn", 0.456))


def hostile() -> Classification:
    spans = [(float(i), i + 1.0, label, 0.5) for i, label in enumerate(HOSTILE)]
    return answer(*spans, name="/x y/<a>&\"'\udcff.mp4")


def readable(text: str) -> str:
    """A label without what XML cannot hold."""
    return re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\ufffd", text)


def test_csv_has_a_row_for_each_segment_of_all_videos() -> None:
    text = format_segments([answer(*TWO), answer((5, 6, "jump", 1.0), name="b.mp4")], "csv")
    assert text.splitlines() == [
        "video,start,end,label,score",
        "meet.mp4,0.000,1.240,jump,0.9000",
        "meet.mp4,1.240,3661.001,turn,0.4560",
        "b.mp4,5.000,6.000,jump,1.0000",
    ]


def test_csv_reads_back() -> None:
    rows = list(csv.DictReader(io.StringIO(format_segments(hostile(), "csv"), newline="")))
    assert [row["label"] for row in rows] == list(map(readable, HOSTILE))


def test_vtt_has_a_cue_for_each_segment() -> None:
    assert format_segments(answer(*TWO), "vtt") == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.240\njump (90%)\n\n00:00:01.240 --> 01:01:01.000\nturn (46%)\n"
    )


def test_vtt_labels_cannot_make_cues_or_tags() -> None:
    text = format_segments(hostile(), "vtt")
    head, *cues = text.rstrip("\n").split("\n\n")
    assert head == "WEBVTT"
    assert len(cues) == len(HOSTILE)
    for cue in cues:
        time, label = cue.split("\n")
        assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} --> \d\d:\d\d:\d\d\.\d{3}", time)
        assert not re.search(r"[<>\r\x00\u2028]|&(?!amp;|lt;|gt;)", label)


def test_label_studio_counts_frames_from_one() -> None:
    [task] = json.loads(format_segments(answer(*TWO), "label-studio"))
    assert task["data"] == {"video": "meet.mp4", "frame_rate": 25.0}
    [prediction] = task["predictions"]
    first, second = prediction["result"]
    assert first == {
        "id": "1",
        "from_name": "label",
        "to_name": "video",
        "type": "timelinelabels",
        "score": 0.9,
        "value": {"ranges": [{"start": 1, "end": 31}], "timelinelabels": ["jump"]},
    }
    assert second["value"]["ranges"][0]["start"] == 32


def test_label_studio_without_a_known_frame_rate_takes_its_default() -> None:
    [task] = json.loads(format_segments(answer((1, 1.01, "jump", 1.0), rate=None), "label-studio"))
    assert task["data"]["frame_rate"] == 24
    assert task["predictions"][0]["result"][0]["value"]["ranges"] == [{"start": 25, "end": 25}]


def test_label_studio_takes_several_videos() -> None:
    tasks = json.loads(format_segments([answer(*TWO), answer(name="b.mp4")], "label-studio"))
    assert [len(task["predictions"][0]["result"]) for task in tasks] == [2, 0]


def elan_rows(document: str) -> tuple[list[tuple[int, int, str]], list[str]]:
    """The annotations of an EAF document, by way of its references."""
    root = ElementTree.fromstring(document.encode("utf-8"))
    slots = {slot.attrib["TIME_SLOT_ID"]: int(slot.attrib["TIME_VALUE"]) for slot in root.iter("TIME_SLOT")}
    labels = {
        one.attrib["ANNOTATION_ID"]: (
            slots[one.attrib["TIME_SLOT_REF1"]],
            slots[one.attrib["TIME_SLOT_REF2"]],
            one.findtext("ANNOTATION_VALUE") or "",
        )
        for one in root.iter("ALIGNABLE_ANNOTATION")
    }
    scores = {
        one.attrib["ANNOTATION_REF"]: one.findtext("ANNOTATION_VALUE") or "" for one in root.iter("REF_ANNOTATION")
    }
    assert scores.keys() == labels.keys()
    return list(labels.values()), list(scores.values())


def test_elan_has_a_tier_of_labels_and_one_of_scores() -> None:
    rows, scores = elan_rows(format_segments(answer(*TWO), "elan"))
    assert rows == [(0, 1240, "jump"), (1240, 3661000, "turn")]
    assert scores == ["0.9000", "0.4560"]


def test_elan_follows_the_schema_of_eaf_3() -> None:
    """The order of elements, required attributes and unique references that EAFv3.0.xsd asks for."""
    root = ElementTree.fromstring(format_segments(hostile(), "elan").encode("utf-8"))
    assert root.tag == "ANNOTATION_DOCUMENT"
    assert root.attrib.keys() >= {"AUTHOR", "DATE", "VERSION", "FORMAT"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", root.attrib["DATE"])
    order = ["HEADER", "TIME_ORDER", "TIER", "TIER", "LINGUISTIC_TYPE", "LINGUISTIC_TYPE", "CONSTRAINT"]
    assert [child.tag for child in root] == order
    types = {one.attrib["LINGUISTIC_TYPE_ID"] for one in root.iter("LINGUISTIC_TYPE")}
    assert {tier.attrib["LINGUISTIC_TYPE_REF"] for tier in root.iter("TIER")} == types
    [child] = [tier for tier in root.iter("TIER") if "PARENT_REF" in tier.attrib]
    assert child.attrib["PARENT_REF"] in {tier.attrib["TIER_ID"] for tier in root.iter("TIER")}
    ids = [value for one in root.iter() for name, value in one.attrib.items() if name.endswith(("_SLOT_ID", "ION_ID"))]
    assert len(ids) == len(set(ids)) == 4 * len(HOSTILE)
    [media] = root.iter("MEDIA_DESCRIPTOR")
    assert media.attrib["MIME_TYPE"] == "video/mp4"
    assert unquote(media.attrib["MEDIA_URL"], errors="surrogateescape") == "file:///x y/<a>&\"'\udcff.mp4"
    assert media.attrib["RELATIVE_MEDIA_URL"].startswith("./%3Ca%3E%26%22%27%FF.mp4")


def test_elan_labels_read_back() -> None:
    rows, _ = elan_rows(format_segments(hostile(), "elan"))
    # XML readers turn every line break into "\n".
    assert [label for _, _, label in rows] == [readable(label).replace("\r\n", "\n") for label in HOSTILE]


def test_elan_finds_a_video_by_url_or_beside_the_document() -> None:
    for name, place in (("https://x.y/a.mp4?b=1&c=2", "https://x.y/a.mp4?b=1&c=2"), ("clips/a.mp4", "./a.mp4")):
        root = ElementTree.fromstring(format_segments(answer(name=name), "elan"))
        [media] = root.iter("MEDIA_DESCRIPTOR")
        assert media.attrib["MEDIA_URL"] == place


def test_elan_reads_with_pympi(tmp_path: Path) -> None:
    pympi = pytest.importorskip("pympi", reason="needs pympi-ling")
    path = tmp_path / "meet.eaf"
    path.write_text(format_segments(answer(*TWO), "elan"), "utf-8")
    document = pympi.Elan.Eaf(str(path))
    assert document.get_annotation_data_for_tier("label") == [(0, 1240, "jump"), (1240, 3661000, "turn")]
    assert [row[2] for row in document.get_annotation_data_for_tier("score")] == ["0.9000", "0.4560"]


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_text_for_files_and_takes_no_segments(kind: SegmentFormat) -> None:
    assert format_segments(hostile(), kind).encode("utf-8")
    assert format_segments(answer(), kind)


@pytest.mark.parametrize("kind", ["vtt", "elan"])
def test_an_instant_still_has_a_length(kind: SegmentFormat) -> None:
    text = format_segments(answer((1.0, 1.0001, "jump", 1.0)), kind)
    assert ("01.001" if kind == "vtt" else 'TIME_VALUE="1001"') in text


def test_what_cannot_be_written_is_explained() -> None:
    with pytest.raises(ValueError, match=r"unknown format 'srt'; choose csv, vtt, label-studio, elan"):
        format_segments(answer(), "srt")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"a\.mp4 was classified without a `window`, so it has no segments"):
        format_segments(answer(name="a.mp4").model_copy(update={"segments": None}), "csv")
    with pytest.raises(ValueError, match="a file of the format vtt holds one video, not 2"):
        format_segments([answer(), answer()], "vtt")


def test_elan_gets_the_place_of_a_video_with_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "work").mkdir()
    (tmp_path / "videos" / "meet 1.mp4").touch()
    monkeypatch.chdir(tmp_path / "work")
    text = format_segments(answer(*TWO, name="../videos/meet 1.mp4"), "elan")
    media = ElementTree.fromstring(text).find(".//MEDIA_DESCRIPTOR")
    assert media is not None
    place = unquote(media.get("MEDIA_URL", "")).removeprefix("file://")
    assert Path(place).is_absolute() and Path(place).samefile(tmp_path / "videos" / "meet 1.mp4")
    assert unquote(media.get("RELATIVE_MEDIA_URL", "")) == "./meet 1.mp4"
