from __future__ import annotations

import pytest

from sefar_training.adapter.attributes import LabelReader, class_attributes, read_gymnastics, reader_for
from sefar_training.adapter.sentences import attribute_questions
from sefar_training.captions import label_captions
from sefar_training.data import ClassTable
from sefar_training.synthgym import CLASSES, ActionClass

EACH = pytest.mark.parametrize("action", CLASSES, ids=lambda action: action.name)
SYNTHGYM = ClassTable(tuple(a.name for a in CLASSES), tuple(a.attributes for a in CLASSES))


@EACH
def test_attributes_are_read_from_every_wording_of_every_class(action: ActionClass) -> None:
    assert len(label_captions(action.name)) == 8
    for sentence in [*label_captions(action.name), action.name]:
        assert read_gymnastics(sentence) == action.attributes, sentence


@EACH
def test_single_answers_state_their_attribute_and_nothing_false(action: ActionClass) -> None:
    for (name, value), (_, answer) in zip(
        action.attributes.items(), attribute_questions(action.attributes), strict=True
    ):
        stated = read_gymnastics(answer)
        assert stated[name] == value, (name, answer)
        assert stated.items() <= action.attributes.items(), answer


@pytest.mark.parametrize(
    ("sentence", "stated"),
    [
        ("", {}),
        ("A gymnast does something.", {}),
        ("It happens on the balance beam.", {"event": "BB"}),
        ("no salto", {"saltos": 0.0}),
        ("a piked salto", {"position": "piked", "twists": 0.0, "saltos": 1.0}),
        ("A salto on the floor with two full twists.", {"event": "FX", "twists": 2.0, "saltos": 1.0}),
        ("on one leg", {"direction": "none", "position": "upright", "saltos": 0.0}),
        # Nobody can do these, and a language model can say them.
        (
            "giant circle backward piked on the floor",
            {"event": "FX", "direction": "backward", "position": "piked and stretched", "twists": 0.0, "saltos": 0.0},
        ),
        (
            "split jump forward with 2 turn on the uneven bars",
            {"event": "UB", "direction": "forward", "position": "split", "twists": 2.0, "saltos": 0.0},
        ),
        (
            "double salto forward wolf with 1 turn with 2 turn",
            {"direction": "forward", "position": "wolf", "twists": "1.0 and 2.0", "saltos": 2.0},
        ),
    ],
)
def test_what_is_stated_and_no_more(sentence: str, stated: dict[str, object]) -> None:
    assert read_gymnastics(sentence) == stated


def test_contradictions_are_never_right() -> None:
    stated = read_gymnastics("salto forward backward tucked on the floor on the balance beam")
    assert stated["direction"] == "forward and backward"
    assert stated["event"] == "FX and BB"


GYM99 = ClassTable(
    (
        "(FX) split jump",
        "(FX) split jump with 1 turn",
        "(VT) round-off, flic-flac on, stretched salto backward off",
    )
)


def test_other_data_sets_are_read_by_label() -> None:
    read = LabelReader(GYM99)
    for label in GYM99.labels:
        for sentence in label_captions(label):
            assert read(sentence) == {"label": label}
    assert read("The clip shows a split.") == {}
    assert read("The clip shows split jumps.") == {}


def test_labels_stand_for_attributes_where_there_are_some() -> None:
    table = ClassTable(("run fast", "walk"), ({"speed": 2.0}, {"speed": 1.0}))
    assert LabelReader(table)("This is run fast.") == {"speed": 2.0}
    assert class_attributes(ClassTable(("run", "walk")), 1) == {"label": "walk"}


def test_the_grammar_is_used_only_if_it_reads_all_classes_correctly() -> None:
    assert reader_for(SYNTHGYM) is read_gymnastics
    assert isinstance(reader_for(GYM99), LabelReader)
    assert isinstance(reader_for(ClassTable(("(FX) split jump",), ({"event": "FX", "height": 3.0},))), LabelReader)
