from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_adapter_data import SYNTHGYM, some_features
from tiny_language_model import tiny_adapter

from sefar_serve.mllm.batch import score
from sefar_serve.mllm.prompt import option_ids
from sefar_training.adapter.answering import Speaker, chosen_option, score_batch
from sefar_training.adapter.distractors import DIFFICULTIES
from sefar_training.adapter.evaluate import (
    classifier_choice,
    evaluate_adapter,
    make_questions,
    match_clips,
    question_figures,
    reordered,
)
from sefar_training.adapter.measures import Share, caption_figures
from sefar_training.adapter.questions import Question
from sefar_training.adapter.report import report_rows
from sefar_training.data import ClassTable
from sefar_training.evaluation.score import EvaluationError


def question(*options: str, answer: int = 0, video: str = "0.mp4") -> Question:
    a, b, c, d = options
    return Question(id=f"{video}{options}", stem="Which?", options=(a, b, c, d), answer=answer, video=video)


def test_caption_figures_by_hand() -> None:
    true = [{"event": "FX", "twists": 1.0}, {"event": "UB", "twists": 0.0}]
    stated = [{"event": "FX", "twists": 2.0, "colour": "red"}, {"event": "UB"}]
    figures = caption_figures(stated, true)
    assert figures.attributes["event"].value == 1 and figures.attributes["twists"].value == 0
    assert figures.mean == 0.5 and figures.mean_half == 0
    assert figures.wrong is not None and (figures.wrong.right, figures.wrong.count) == (1, 3)
    assert (figures.unstated.right, figures.unstated.count) == (1, 4)
    assert figures.exact.right == 0
    silent = caption_figures([{}, {}], true)
    assert silent.wrong is None and silent.mean == 0 and silent.unstated.value == 1


def test_shares_and_their_intervals() -> None:
    share = Share(right=90, count=100)
    low, high = share.interval
    assert (round(low, 3), round(high, 3)) == (0.826, 0.945)  # Wilson, by hand
    assert str(share) == "90.0 (82.6 to 94.5)"


def test_batched_scores_are_those_of_serving() -> None:
    adapter, clips = tiny_adapter(), some_features()
    speaker = Speaker(adapter, clips)
    texts = [["salto forward", "x"], ["giant circle forward tucked", "salto", "y"], ["z", "salto backward"]]
    prompts = [speaker._prompt(i, f"Which? {'so ' * i}") for i in range(3)]
    ids = [option_ids(adapter.processor, options) for options in texts]
    batched = score_batch(adapter, prompts, ids)
    for row, prompt, options in zip(batched, prompts, ids, strict=True):
        assert row == pytest.approx(score(adapter, prompt, options), abs=1e-3)


def test_answers_do_not_depend_on_the_batch_and_captions_come_for_every_clip() -> None:
    adapter, clips = tiny_adapter(), some_features()
    asked = [pair for questions in make_questions(clips, SYNTHGYM).values() for pair in questions]
    alone, together = Speaker(adapter, clips, 1), Speaker(adapter, clips, 5)
    assert alone.answers(asked) == together.answers(asked)
    assert alone.captions() == together.captions()
    assert len(together.captions()) == len(clips)
    for mode in ("letter", "generate"):
        assert len(together.answers(asked, mode)) == len(asked)


@pytest.mark.parametrize(
    ("said", "chosen"),
    [
        ("split jump", 1),
        ("Split  jump.", 1),
        ("C", 2),
        ("b. split jump", 1),
        ("D) anything", 3),
        ("split", None),
        ("A gymnast", None),
        ("", None),
    ],
)
def test_generated_answers_are_matched_with_options(said: str, chosen: int | None) -> None:
    assert chosen_option(said, question("leap", "split jump", "wolf jump", "1 turn.")) == chosen


def test_questions_about_the_same_clips_are_the_same_for_every_adapter() -> None:
    clips = some_features()
    first, again = make_questions(clips, SYNTHGYM, limit=4), make_questions(clips, SYNTHGYM, limit=4)
    assert first == again and list(first) == list(DIFFICULTIES)
    for asked in first.values():
        assert len(asked) == 4
        for made, clip in asked:
            assert made.video == clips.names[clip]
            assert made.options[made.answer] == SYNTHGYM.labels[clips.labels[clip]].partition(") ")[2]
    assert [clip for _, clip in first["hard"]] == [clip for _, clip in first["near"]]


def test_the_classifier_takes_its_most_probable_option() -> None:
    table = ClassTable(("(FX) split jump", "(BB) split jump", "leap", "turn"))
    clips = replace(some_features(1), logits=np.array([[[0, 3, 1, 2]]], np.float32))
    assert classifier_choice(question("leap", "split jump", "unknown", "turn"), clips, 0, table) == 1
    assert classifier_choice(question("leap", "x", "unknown", "turn"), clips, 0, table) == 3
    assert classifier_choice(question("w", "x", "y", "z"), clips, 0, table) is None


class Listener:
    """Answers with the option it was told to like, else with the first."""

    def __init__(self, liked: str) -> None:
        self.liked = liked

    def answers(self, asked: list[tuple[Question, int]], mode: str) -> list[int | None]:
        return [q.options.index(self.liked) if self.liked in q.options else 0 for q, _ in asked]


def test_duplicate_options_are_reported_separately() -> None:
    clips = some_features()
    plain, double = question("split jump", "b", "c", "d"), question("split jump", "split jump", "c", "d", answer=1)
    figures = question_figures(Listener("split jump"), clips, SYNTHGYM, [(plain, 0), (double, 1)], "loglik")  # type: ignore[arg-type]
    assert figures.adapter == Share(right=1, count=1)
    assert figures.duplicates == Share(right=1, count=1)
    assert figures.consistency == Share(right=1, count=1)
    place = question_figures(Listener("none"), clips, SYNTHGYM, [(question(*"abcd"), 0)] * 40, "loglik")  # type: ignore[arg-type]
    assert place.consistency is not None and place.consistency.value < 0.5
    assert place.classifier is None


def test_reordering_keeps_the_answer() -> None:
    turned = reordered(question("a", "b", "c", "d", answer=1), [3, 1, 0, 2])
    assert turned.options == ("d", "b", "a", "c") and turned.options[turned.answer] == "b"


def test_questions_from_a_file_find_their_clips() -> None:
    clips = some_features()
    asked = [question(*"abcd", video="2.mp4"), question(*"abcd", video="3"), question(*"abcd", video="elsewhere")]
    assert [clip for _, clip in match_clips(asked, clips, Path("q.json"))] == [2, 3]
    with pytest.raises(EvaluationError, match="none of its 1 questions is about a clip"):
        match_clips(asked[2:], clips, Path("q.json"))
    clips = replace(clips, names=("a/0.mp4", "b/0.mp4", *clips.names[2:]))
    with pytest.raises(EvaluationError, match="0 matches several clips of the list"):
        match_clips([question(*"abcd", video="0")], clips, Path("q.json"))


def test_report_includes_the_classifier_and_says_if_blind() -> None:
    adapter, clips = tiny_adapter(), some_features(8)
    asked = make_questions(clips, SYNTHGYM)
    seeing = evaluate_adapter(adapter, clips, SYNTHGYM, "encoder", asked)
    blind = evaluate_adapter(adapter, clips, SYNTHGYM, "encoder", asked, blind=True)
    assert seeing.classifier == blind.classifier
    assert len({example.caption for example in blind.examples}) == 1
    assert len({example.caption for example in seeing.examples}) > 1
    share = seeing.classifier.exact
    assert share.value == float((clips.predicted == clips.labels).mean())
    rows = {what: (own, other) for what, own, other in report_rows(seeing)}
    assert rows["all attributes correct"][1] == str(share)
    assert {"questions, hard", "questions, near", "questions, random"} <= rows.keys()
    assert seeing == type(seeing).model_validate_json(seeing.model_dump_json())


def test_unknown_labels_are_refused() -> None:
    with pytest.raises(EvaluationError, match="label 40"):
        evaluate_adapter(tiny_adapter(), some_features(2, labels=[0, 40]), SYNTHGYM, "encoder", {})
