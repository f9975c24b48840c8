"""What is said where little is known."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from own_runs import JOINTS, choice, collection, facts, judged
from small_videos import encode

from sefar_training.own.answers import answers_of
from sefar_training.own.card import write_card
from sefar_training.own.report import write_report
from sefar_training.own.run import _learning_from_all
from sefar_training.own.trial import Choice, Trial
from sefar_training.own.words import about_control, about_eta, about_new_places
from sefar_training.start import Prepared, prepare


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return collection(tmp_path_factory.mktemp("videos"))


def test_a_clear_margin_beats_and_a_narrow_one_does_not(prepared: Prepared) -> None:
    found = choice(prepared, wrong=(), control=tuple(range(12)))
    assert "The model beats it by 100 points." in about_control(prepared, found)
    assert "The model is probably better, by" in about_control(prepared, choice(prepared))


def test_what_was_not_measured_has_no_figures(tmp_path: Path, prepared: Prepared) -> None:
    unknown = Trial(JOINTS, None, None, 1.0)
    found = Choice(JOINTS, (unknown,), Trial(JOINTS, None, None, 1.0), ())
    assert about_new_places(prepared, found).startswith("Nobody knows whether this model works")
    card = write_card(tmp_path / "card.md", prepared, found, facts(tmp_path)).read_text("utf-8")
    page = write_report(tmp_path / "report.html", prepared, found, facts(tmp_path)).read_text("utf-8")
    for text in (card, page):
        assert "Nobody knows whether this model works" in text
        assert "0%" not in text.partition("Chance")[0].partition("<body>")[2] if text is page else True
    assert "all labelled clips are of one group" not in card


def test_groups_without_a_common_class_are_not_called_one(prepared: Prepared) -> None:
    trial = Trial(JOINTS, None, judged(prepared), 1.0)
    told = about_new_places(prepared, Choice(JOINTS, (trial,), None, ()))
    assert "because no class has clips of two groups" in told


def test_eta_is_explained_with_how_well_it_separates(prepared: Prepared) -> None:
    one = judged(prepared, wrong=(0, 1))
    rng = np.random.default_rng(0)
    noise = np.full(len(prepared.labels), 0.1)
    noise[[0, 1]] = 5.0  # wrong answers waver
    samples = np.log(one.probabilities)[:, None] + noise[:, None, None] * rng.normal(size=(len(noise), 10, 2))
    told = about_eta(answers_of(dataclasses.replace(one, mc_logits=samples), prepared.labels, prepared.classes))
    assert "a right answer has a higher η than a wrong one in 100% of pairs" in told
    assert "Only 2 answers are wrong" in told
    assert "was not measured" in about_eta(answers_of(one, prepared.labels, prepared.classes))


def test_small_lists_are_learned_from_and_that_is_said(prepared: Prepared) -> None:
    splits = dataclasses.replace(
        prepared.splits, train=np.arange(5), val=np.arange(5, 8), test=np.arange(8, 11), given=False
    )
    whole = dataclasses.replace(prepared, splits=splits)
    merged, told = _learning_from_all(whole)
    assert merged.splits.train.tolist() == list(range(11))
    assert len(merged.splits.val) == len(merged.splits.test) == 0
    assert told[0].startswith("test is merged into train (3 clips): ")
    assert told[1].startswith("val is merged into train (3 clips): ")
    given = dataclasses.replace(whole, splits=dataclasses.replace(splits, given=True))
    assert _learning_from_all(given) == (given, [])


def test_names_of_classes_are_shown_as_they_are(tmp_path: Path) -> None:
    names = ("<script>alert(1)</script>", "Übung", "background")
    for i in range(9):
        name = names[i % 3]
        folder = tmp_path / "clips" / f"c{i % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        encode(folder / f"{i}.mp4", frames=8, brightness=9 * i)
        with (tmp_path / "clips.csv").open("a" if i else "w", encoding="utf-8") as file:
            file.write(("" if i else "path,label\n") + f"clips/c{i % 3}/{i}.mp4,{name}\n")
    found = prepare(tmp_path / "clips.csv", progress=False)
    assert set(found.classes) == set(names)
    page = write_report(tmp_path / "report.html", found, choice(found), facts(tmp_path)).read_text("utf-8")
    card = write_card(tmp_path / "card.md", found, choice(found), facts(tmp_path)).read_text("utf-8")
    for text in (page, card):
        assert "<script>" not in text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
        assert "Übung" in text and "background" in text
