from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import yaml
from own_runs import choice, collection, facts

from sefar_training.own.card import write_card
from sefar_training.own.report import RunFacts
from sefar_training.start import Prepared
from sefar_training.typical import fit_typical


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return collection(tmp_path_factory.mktemp("videos"))


def test_the_card_says_what_the_model_is(tmp_path: Path, prepared: Prepared) -> None:
    text = write_card(tmp_path / "MODEL_CARD.md", prepared, choice(prepared), facts(tmp_path)).read_text("utf-8")
    _, head, body = text.split("---\n", 2)
    about = yaml.safe_load(head)
    assert about["library_name"] == "sefar"
    assert about["pipeline_tag"] == "video-classification"
    assert "pose" in about["tags"]
    for told in (
        "# my-model",
        "| 0 | jump | 6 | 3 |",
        "| 1 | turn | 5 | 3 |",
        "`efficientnet-lite0` (Apache-2.0;",
        "MediaPipe's pose models (mediapipe==",
        "- In new places: 90% right (95 % interval",
        "- On the rest of this folder, in the same places: 100% right",
        "The model beats it.",
        "It knows the 2 classes above.",
        "fewer than 10 labelled clips are known badly, and measured badly: turn (5), jump (6).",
        "```\nsefar serve --model model.onnx\n```",
    ):
        assert told in body
    # The card may be published: it names no clips, groups or folders.
    assert "clip0" not in body
    assert "place0" not in body
    assert str(tmp_path) not in body
    assert "synthgym" not in text.lower()


def test_limits_say_what_was_not_reached(tmp_path: Path) -> None:
    collected = collection(tmp_path, one_group=True)
    found = choice(collected, control=(1,))
    run = dataclasses.replace(facts(tmp_path), stream="rgb", weights=())
    text = write_card(tmp_path / "MODEL_CARD.md", collected, found, run).read_text("utf-8")
    assert "How good it is in new places is not known." in text
    assert "MediaPipe" not in text
    assert "| contains frozen weights of | none |" in text
    hard = dataclasses.replace(
        found, trials=(dataclasses.replace(found.trials[0], same_places=found.control.deciding),)
    )  # type: ignore[union-attr]
    text = write_card(tmp_path / "MODEL_CARD.md", collected, hard, run).read_text("utf-8")
    assert "It does not beat a single still frame" in text


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    classes = ("<b>x</b>|[l](http://e)", "---\n: `y`", "# z")
    collected = dataclasses.replace(collection(tmp_path, ("a", "b", "c")), classes=classes)
    name = "n: [\n---\nevil: 1"
    run = dataclasses.replace(facts(tmp_path, name), onnx=tmp_path / "``` x.onnx")
    text = write_card(tmp_path / "MODEL_CARD.md", collected, choice(collected), run).read_text("utf-8")
    lines = text.splitlines()
    end = lines.index("---", 1)
    assert yaml.safe_load("\n".join(lines[1:end]))["model_name"] == name
    assert "| 0 | &lt;b&gt;x&lt;/b&gt;\\|\\[l\\](http://e) | 4 | 3 |" in lines
    assert "| 1 | \\--- : \\`y\\` | 4 | 3 |" in lines
    assert "| 2 | \\# z | 3 | 3 |" in lines
    assert "evil: 1" not in lines
    assert "````\nsefar serve --model '``` x.onnx'\n````" in text


def test_the_card_says_what_familiarity_means(tmp_path: Path, prepared: Prepared) -> None:
    def told(run: RunFacts) -> str:
        text = write_card(tmp_path / "MODEL_CARD.md", prepared, choice(prepared), run).read_text("utf-8")
        return text.partition("## Clips that it does not know\n\n")[2].partition("\n\n## ")[0]

    run, rng = facts(tmp_path), np.random.default_rng(0)
    assert "its val list has too few clips to measure that on. It needs at least 10" in told(run)
    typical = fit_typical(rng.normal(0, 1, (40, 6)), rng.normal(0, 1, (120, 6)))
    one = told(dataclasses.replace(run, typical=(typical,)))
    assert "the share of the 120 val clips that were less typical" in one
    assert "the 5th nearest of 40 training clips. Below 0.01" in one and "of the val clips, 1 is marked" in one
    assert (typical.familiarity(rng.normal(9, 1, (1, 6))) < 0.01).all()
    assert "of the val clips, at most 2 are marked" in told(dataclasses.replace(run, typical=(typical, typical)))


def test_the_card_says_which_classes_its_figures_do_not_cover(tmp_path: Path, prepared: Prepared) -> None:
    chosen = choice(prepared)
    trial = chosen.trials[0]
    assert trial.new_places is not None
    probabilities = trial.new_places.probabilities.copy()
    probabilities[prepared.labels == 1] = np.nan
    new = dataclasses.replace(trial.new_places, probabilities=probabilities)
    partly = dataclasses.replace(chosen, trials=(dataclasses.replace(trial, new_places=new),))
    text = write_card(tmp_path / "MODEL_CARD.md", prepared, partly, facts(tmp_path)).read_text("utf-8")
    assert text.count("It does not cover 1 class with clips of too few groups: turn.") == 1
