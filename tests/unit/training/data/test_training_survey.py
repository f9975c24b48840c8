from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_videos import encode
from typer.testing import CliRunner

from sefar_serve.cli import app
from sefar_serve.lists import ListFileError
from sefar_training.data.survey import find_lists, survey_lists

LISTS = {
    "train.csv": "/root/video/a.mp4 0\n/root/video/b.mp4 0\n/root/video/c.mp4 2\n",
    "unlabel.csv": "/root/video/d.mp4\n/root/video/e.mp4 -1\n",
    "val.csv": "/root/video/f.mp4 1\n/root/video/g.mp4 1\n",
    "test.csv": "/root/video/f.mp4 1\n/root/video/g.mp4 1\n",
}
REMAP = {"/root/video/": "v/"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four lists that fit together, and their clips."""
    (tmp_path / "v").mkdir()
    whole = encode(tmp_path / "v" / "a.mp4").read_bytes()
    for name in "bcdefg":
        (tmp_path / "v" / f"{name}.mp4").write_bytes(whole)
    (tmp_path / "lists").mkdir()
    for name, text in LISTS.items():
        (tmp_path / "lists" / name).write_text(text)
    return tmp_path


def add(folder: Path, name: str, line: str) -> None:
    with (folder / "lists" / name).open("a") as file:
        file.write(line + "\n")


def sefar(*arguments: str | Path, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["lists", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done.output if code == 2 else done.stdout


def test_sizes_classes_and_roles(folder: Path) -> None:
    survey = survey_lists(find_lists([folder / "lists"]))
    assert [
        (s.file.name, s.role, s.clips, s.classes, s.least, s.most, s.highest_label, s.unlabelled) for s in survey.lists
    ] == [
        ("test.csv", "evaluation", 2, 1, 2, 2, 1, 0),
        ("train.csv", "training", 3, 2, 1, 2, 2, 0),
        ("unlabel.csv", "training", 2, 0, 0, 0, -1, 2),
        ("val.csv", "evaluation", 2, 1, 2, 2, 1, 0),
    ]
    assert all(s.missing is None and s.broken is None for s in survey.lists)
    [overlap] = survey.overlaps
    assert (overlap.first.name, overlap.second.name, overlap.shared, overlap.same) == ("test.csv", "val.csv", 2, True)
    assert not overlap.leak
    assert survey.sound


def test_a_leak_is_found_under_any_prefix(folder: Path) -> None:
    add(folder, "train.csv", "/elsewhere/f.mp4,2")
    survey = survey_lists(find_lists([folder / "lists"]), None, REMAP | {"/elsewhere/": "v/"})
    leaks = {(o.first.name, o.second.name): o.contradictions for o in survey.overlaps if o.leak}
    assert leaks == {("test.csv", "train.csv"): 1, ("train.csv", "val.csv"): 1}
    assert not survey.sound


def test_spans_that_overlap_in_time_leak(tmp_path: Path) -> None:
    head = "path,label,start,end\n"
    (tmp_path / "train.csv").write_text(f"{head}a.mp4,0,1,3\na.mp4,1,5,6\nb.mp4,0,0,2\nc.mp4,1,,\n")
    (tmp_path / "test.csv").write_text(f"{head}a.mp4,0,3,5\na.mp4,1,5.5,7\nb.mp4,0,2,4\n")
    survey = survey_lists([[tmp_path / "train.csv", tmp_path / "test.csv"]])
    [overlap] = survey.overlaps
    assert (overlap.shared, overlap.overlapping, overlap.leak) == (0, 1, True)
    assert overlap.example == "a.mp4#t=5,6"  # spans that only touch share nothing
    assert not survey.sound
    shown = CliRunner().invoke(app, ["lists", str(tmp_path)]).output
    told = "overlap in 1 span of the same files, e.g. a.mp4#t=5.5,7: evaluation clips are also used for training"
    assert told in " ".join(shown.split())


def test_lists_of_different_folders_are_different_sets_unless_named(folder: Path) -> None:
    (folder / "other").mkdir()
    (folder / "other" / "train.csv").write_text(LISTS["test.csv"])
    assert survey_lists(find_lists([folder])).sound
    files = [folder / "other" / "train.csv", folder / "lists" / "test.csv", folder / "lists" / "test.csv"]
    [overlap] = survey_lists(find_lists(files)).overlaps
    assert overlap.leak


def test_missing_and_broken_clips_are_told_apart(folder: Path) -> None:
    (folder / "v" / "b.mp4").unlink()
    (folder / "v" / "c.mp4").write_text("not a video")
    (folder / "v" / "e.mp4").write_bytes(b"")
    survey = survey_lists(find_lists([folder / "lists"]), folder, REMAP, check=True, workers=1, progress=False)
    by_name = {s.file.stem: s for s in survey.lists}
    assert by_name["train"].missing == ("/root/video/b.mp4",)
    assert [(b.name, "c.mp4" in b.reason) for b in by_name["train"].broken or ()] == [("/root/video/c.mp4", True)]
    assert [b.name for b in by_name["unlabel"].broken or ()] == ["/root/video/e.mp4"]
    assert by_name["val"].missing == by_name["val"].broken == ()
    assert not survey.sound


def test_the_command_prints_a_table_and_names_what_is_wrong(folder: Path) -> None:
    shown = sefar(folder / "lists", "--root", folder, "--remap", "/root/video/=v/")
    assert "lists/train.csv" in shown
    assert "1–2" in shown
    assert "lists/test.csv and lists/val.csv contain the same 2 clips" in shown
    assert "1 of the classes 0 to 2 have no clips" in shown
    for name in "abcdef":
        (folder / "v" / f"{name}.mp4").unlink()
    add(folder, "test.csv", "/root/video/a.mp4 0")
    shown = sefar(folder / "lists", "--root", folder, "--remap", "/root/video/=v/", code=1)
    assert "lists/train.csv: 3 of 3 clips are not on disk: /root/video/a.mp4, /root/video/b.mp4," in shown
    assert "share 1 clip, e.g. /root/video/a.mp4: evaluation clips are also used for training" in shown


def test_labels_beyond_the_label_file(folder: Path) -> None:
    labels = folder / "labels.txt"
    labels.write_text("one\ntwo\n")
    shown = sefar(folder / "lists" / "train.csv", "--labels", labels, code=1)
    assert "1 clips have a class that is not in the label file; the highest is 2" in shown


def test_json(folder: Path) -> None:
    (folder / "v" / "g.mp4").write_text("no")
    options = ["--root", folder, "--remap", "/root/video/=v/", "--check", "--workers", "1", "--json"]
    survey = json.loads(sefar(folder / "lists" / "test.csv", *options, code=1))
    assert survey["lists"][0]["clips"] == 2
    assert survey["lists"][0]["broken"][0]["name"] == "/root/video/g.mp4"


def test_mistakes_are_named(folder: Path) -> None:
    assert "--check needs --root" in sefar(folder / "lists", "--check", code=2)
    assert "OLD=NEW" in sefar(folder / "lists", "--remap", "/root/video", code=2)
    with pytest.raises(ListFileError, match=r"v has no \.csv files"):
        find_lists([folder / "v"])
    with pytest.raises(FileNotFoundError, match="does not exist"):
        find_lists([folder / "absent"])


def test_the_lists_of_the_release_do_not_leak(shared_data: Path) -> None:
    remap = dict.fromkeys(["/root/video/", "/media/hyl/WD_BLACK/Datasets/Action_Recognition/FineGym/video/"], "v/")
    survey = survey_lists(find_lists([shared_data / "official" / "lists"]), None, remap)
    assert len(survey.lists) == 29
    assert survey.sound
    assert not any(s.repeated or s.unlabelled for s in survey.lists)
    same = [overlap for overlap in survey.overlaps if overlap.same]
    assert {overlap.first.parent for overlap in same} == {s.file.parent for s in survey.lists}
    total = {o.first.stem + o.second.stem: o.shared for o in survey.overlaps if not o.same}
    assert total == {"testtotal": 2814, "totaltrain": 959, "totalval": 2814}
