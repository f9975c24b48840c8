"""POST /v1/classify: the three forms of a request, the options, several clips, windows."""

from __future__ import annotations

import base64

import pytest
from grey_clips import encode_grey_clip

from sefar_serve.engine import FAKE_METADATA

LABELS = FAKE_METADATA.labels


def data_url(video: bytes) -> str:
    return "data:video/mp4;base64," + base64.b64encode(video).decode()


def test_multipart(gateway, dark_clip: bytes) -> None:
    answer = gateway().post("/v1/classify", files={"file": ("dark.mp4", dark_clip)}, data={"top_k": "2"})
    assert answer.status_code == 200
    body = answer.json()
    assert (body["model"], body["version"], body["usage"]["clips"]) == ("fake", "0", 1)
    [item] = body["data"]
    assert item["name"] == "dark.mp4"
    assert [label["label"] for label in item["labels"]] == [LABELS[0], LABELS[1]]
    assert item["labels"][0]["attributes"] == {"direction": "forward"}
    assert item["labels"][0]["score"] > 0.9
    assert 0 < item["reliability"] <= 1
    assert item["timeline"] is None


def test_raw_body_with_options_in_the_query(gateway, bright_clip: bytes) -> None:
    answer = gateway().post(
        "/v1/classify?top_k=1&raw_scores=true&attributes=false",
        content=bright_clip,
        headers={"content-type": "video/mp4"},
    )
    [item] = answer.json()["data"]
    [label] = item["labels"]
    assert (label["label"], label["logit"], label["attributes"]) == (LABELS[2], 5.0, {})


def test_curl_data_binary_counts_as_a_raw_body(gateway, bright_clip: bytes) -> None:
    answer = gateway().post(
        "/v1/classify", content=bright_clip, headers={"content-type": "application/x-www-form-urlencoded"}
    )
    assert answer.json()["data"][0]["labels"][0]["label"] == LABELS[2]


def test_json_with_several_data_urls_in_order(gateway, dark_clip: bytes, bright_clip: bytes) -> None:
    urls = [data_url(clip) for clip in (bright_clip, dark_clip, bright_clip)]
    answer = gateway().post("/v1/classify", json={"input": urls, "top_k": 1, "model": "fake"})
    assert [item["labels"][0]["index"] for item in answer.json()["data"]] == [2, 0, 2]
    assert [item["index"] for item in answer.json()["data"]] == [0, 1, 2]


def test_the_answer_has_the_position_of_each_frame(gateway, dark_clip: bytes) -> None:
    [item] = gateway().post("/v1/classify", files={"file": dark_clip}).json()["data"]
    clip = item["clip"]
    assert (clip["frame_count"], clip["width"], clip["height"]) == (24, 64, 64)
    frames = clip["frames"]
    assert [f["element"] for f in frames] == ["fine_1"] * 2 + ["fine_2"] * 2 + ["context"] * 4
    assert [f["index"] for f in frames] == [10, 22, 4, 16, 1, 7, 13, 19]
    assert [f["time"] for f in frames] == pytest.approx([f["index"] / 25 for f in frames])


def test_start_and_end_select_a_part_of_the_video(gateway) -> None:
    clip = encode_grey_clip([20] * 25 + [230] * 25)
    client = gateway()
    for start, expected in ((0.0, 0), (1.0, 2)):
        fields = {"start": str(start), "end": str(start + 1)}
        [item] = client.post("/v1/classify", files={"file": clip}, data=fields).json()["data"]
        assert item["labels"][0]["index"] == expected
        assert item["clip"]["frame_count"] == 25


def test_windows_give_a_timeline(gateway) -> None:
    clip = encode_grey_clip([20] * 50 + [230] * 50)
    fields = {"window": "1", "stride": "1"}
    [item] = gateway().post("/v1/classify", files={"file": clip}, data=fields).json()["data"]
    assert [w["labels"][0]["index"] for w in item["timeline"]] == [0, 0, 2, 2]
    assert [w["start"] for w in item["timeline"]] == pytest.approx([0, 1, 2, 3])


def test_windows_are_merged_to_segments(gateway) -> None:
    clip = encode_grey_clip([20] * 50 + [230] * 50)
    fields = {"window": "1", "stride": "0.25"}
    [item] = gateway().post("/v1/classify", files={"file": clip}, data=fields).json()["data"]
    dark, bright = item["segments"]
    assert dark["score"] > 0.9
    assert dark | {"score": 1} == {"start": 0, "end": dark["end"], "label": LABELS[0], "index": 0, "score": 1}
    assert (bright["start"], bright["end"], bright["index"]) == (dark["end"], 4, 2)
    assert dark["end"] == pytest.approx(2, abs=0.2)


def test_a_video_of_one_window_has_one_segment(gateway, dark_clip: bytes) -> None:
    [item] = gateway().post("/v1/classify?window=5", files={"file": dark_clip}).json()["data"]
    assert item["timeline"] is None
    assert [(one["start"], one["index"]) for one in item["segments"]] == [(0, 0)]


def test_there_are_no_segments_without_windows(gateway, dark_clip: bytes) -> None:
    [item] = gateway().post("/v1/classify", files={"file": dark_clip}).json()["data"]
    assert item["segments"] is None


@pytest.mark.parametrize("form", ["query", "form", "json"])
def test_windows_of_several_lengths(gateway, form: str) -> None:
    clip = encode_grey_clip([20] * 50)
    files = {"file": clip}
    answer = {
        "query": lambda: gateway().post("/v1/classify?window=1&window=0.5", files=files),
        "form": lambda: gateway().post("/v1/classify", files=files, data={"window": "1,0.5"}),
        "json": lambda: gateway().post("/v1/classify", json={"input": data_url(clip), "window": [1, 0.5]}),
    }[form]()
    [item] = answer.json()["data"]
    times = [(window["start"], window["end"]) for window in item["timeline"]]
    assert times == sorted([(i / 2, i / 2 + 1) for i in range(3)] + [(i / 4, i / 4 + 0.5) for i in range(7)])
    assert [(one["start"], one["end"], one["index"]) for one in item["segments"]] == [(0, 2, 0)]


def test_the_limit_on_windows_is_for_all_lengths_together(gateway) -> None:
    clip = encode_grey_clip([20] * 50)
    client = gateway(max_windows=7)
    for window, status in (("0.5", 200), ("1", 200), ("0.5,1", 413)):
        answer = client.post("/v1/classify", files={"file": clip}, data={"window": window})
        assert answer.status_code == status
    assert "10 windows of 2 lengths exceed the limit of 7 windows" in answer.json()["error"]["message"]


def test_a_label_is_left_out_of_the_segments(gateway) -> None:
    clip = encode_grey_clip([20] * 50 + [230] * 50)
    fields = {"window": "1", "background": LABELS[0]}
    [item] = gateway().post("/v1/classify", files={"file": clip}, data=fields).json()["data"]
    assert [one["index"] for one in item["segments"]] == [2]


def test_an_unknown_label_to_leave_out_is_refused_before_any_work(gateway, dark_clip: bytes) -> None:
    answer = gateway().post("/v1/classify?window=1&background=rest", files={"file": dark_clip})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("unknown_label", "background")


@pytest.mark.parametrize("option", ["smoothing", "min_segment", "background"])
def test_options_of_segments_need_a_window(gateway, dark_clip: bytes, option: str) -> None:
    answer = gateway().post(f"/v1/classify?{option}=0", files={"file": dark_clip})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == f"{option}: needs `window`, the length of the windows"


def test_the_error_for_too_many_windows_suggests_a_stride(gateway) -> None:
    clip = encode_grey_clip([20] * 50)
    answer = gateway(max_windows=3).post("/v1/classify", files={"file": clip}, data={"window": "0.2", "stride": "0.1"})
    assert answer.status_code == 413
    assert "stride" in answer.json()["error"]["message"]


def test_one_bad_clip_does_not_fail_the_others(gateway, dark_clip: bytes, bright_clip: bytes) -> None:
    files = [("file", dark_clip), ("file", b"not a video"), ("file", b""), ("file", bright_clip)]
    answer = gateway().post("/v1/classify", files=files)
    assert answer.status_code == 200
    first, bad, empty, last = answer.json()["data"]
    assert (first["labels"][0]["index"], last["labels"][0]["index"]) == (0, 2)
    assert (bad["object"], bad["index"], bad["error"]["code"]) == ("error", 1, "not_a_video")
    assert empty["error"]["code"] == "empty_video"
    assert answer.json()["usage"]["clips"] == 2


def test_a_clip_shorter_than_the_models_frames_is_answered(gateway) -> None:
    answer = gateway().post("/v1/classify", files={"file": encode_grey_clip([230] * 3)})
    assert answer.json()["data"][0]["labels"][0]["index"] == 2
