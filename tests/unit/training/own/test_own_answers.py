from __future__ import annotations

import numpy as np
import pytest

from sefar_training.own.answers import answers_of, find_doubts
from sefar_training.own.trial import Judged

LABELS = np.array([0, 0, 1, 1, -1])
NAN = [np.nan, np.nan]


def judgement(rows: list[list[float]]) -> Judged:
    return Judged(np.array(rows), 0.5, 0.4, 0.6)


def test_answers_are_of_clips_that_were_judged() -> None:
    answers = answers_of(judgement([[0.9, 0.1], [0.0, 1.0], [0.4, 0.6], [0.7, 0.3], NAN]), LABELS, ("a", "b"))
    assert answers.clips.tolist() == [0, 1, 2, 3]
    assert answers.report.confusion == [[1, 1], [1, 1]]
    assert answers.report.top1 == 0.5
    # A probability of zero is a finite score, and the bins hold the probabilities themselves.
    confidences = [b.confidence for b in answers.report.calibration if b.confidence is not None]
    assert np.mean(confidences) == pytest.approx(np.mean([0.9, 1.0, 0.6, 0.7]))
    assert answers.hardest(5).tolist() == [1, 3]
    assert answers.hardest(1).tolist() == [1]
    assert answers.behind(0, 1, 5).tolist() == [1]


def test_a_doubtful_label_is_contradicted_by_all_judgements() -> None:
    new = judgement([[0.9, 0.1], [0.1, 0.9], [0.2, 0.8], [0.9, 0.1], NAN])
    same = judgement([[0.9, 0.1], [0.05, 0.95], [0.2, 0.8], [0.3, 0.7], NAN])
    (doubt,) = find_doubts([new, same], LABELS)
    assert (doubt.clip, doubt.answer, doubt.probability) == (1, 1, 0.9)
    assert [d.clip for d in find_doubts([new], LABELS)] == [1, 3]
    # Less sure than clips of that class usually are.
    unsure = judgement([[0.9, 0.1], [0.45, 0.55], [0.2, 0.8], [0.2, 0.8], NAN])
    assert find_doubts([unsure], LABELS) == []
