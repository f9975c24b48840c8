"""Metrics of captions and answers: shares with confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, computed_field

from ..evaluation.measures import Z95, wilson_interval
from .attributes import Attributes


class Share(BaseModel):
    """A share with Wilson's 95 % interval.

    Attributes:
        right: numerator.
        count: denominator, at least 1.
    """

    model_config = ConfigDict(frozen=True)

    right: int
    count: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def value(self) -> float:
        """The share, in [0, 1]."""
        return self.right / self.count

    @computed_field  # type: ignore[prop-decorator]
    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval."""
        return wilson_interval(self.right, self.count)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{100 * self.value:.1f} ({100 * low:.1f} to {100 * high:.1f})"

    @classmethod
    def of(cls, right: Sequence[bool]) -> Share:
        """The share of true values."""
        return cls(right=sum(map(bool, right)), count=len(right))


class CaptionFigures(BaseModel):
    """How well captions state the attributes of their clips.

    Attributes:
        attributes: for each attribute the share of clips whose caption states it correctly; unstated counts as wrong.
        mean: mean over attributes, in [0, 1].
        mean_half: half-width of its 95 % interval, computed over clips because a clip's attributes are correlated.
        wrong: share of stated attributes that are wrong.
        unstated: share of all attributes that are not stated.
        exact: share of clips whose caption states all attributes correctly.
    """

    model_config = ConfigDict(frozen=True)

    attributes: dict[str, Share]
    mean: float
    mean_half: float
    wrong: Share | None
    unstated: Share
    exact: Share


def caption_figures(stated: Sequence[Attributes], true: Sequence[Attributes]) -> CaptionFigures:
    """Compare stated attributes with the true ones.

    Args:
        stated: attributes in each clip's caption; those that the clip does not have are ignored.
        true: attributes of each clip; at least one clip, all with the same names.
    """
    names = list(true[0])
    right = np.array([[found.get(name) == so[name] for name in names] for found, so in zip(stated, true, strict=True)])
    told = np.array([[name in found for name in names] for found in stated])
    by_clip = right.mean(axis=1)
    return CaptionFigures(
        attributes={name: Share.of(right[:, i].tolist()) for i, name in enumerate(names)},
        mean=float(by_clip.mean()),
        mean_half=float(Z95 * by_clip.std(ddof=1) / np.sqrt(len(by_clip))) if len(by_clip) > 1 else 0.0,
        wrong=Share(right=int((told & ~right).sum()), count=int(told.sum())) if told.any() else None,
        unstated=Share(right=int((~told).sum()), count=told.size),
        exact=Share.of(right.all(axis=1).tolist()),
    )


class QuestionFigures(BaseModel):
    """Results on a set of questions.

    Attributes:
        adapter: share answered correctly by the language model.
        classifier: share answered correctly by the classifier alone, which takes its most probable option; None if it
            does not know the options.
        consistency: share of questions that get the same answer when the options are reordered.
        duplicates: like `adapter`, for questions with duplicate options, which are excluded above.
    """

    model_config = ConfigDict(frozen=True)

    adapter: Share | None
    classifier: Share | None = None
    consistency: Share | None = None
    duplicates: Share | None = None


class Example(BaseModel):
    """One clip with its label and its caption."""

    model_config = ConfigDict(frozen=True)

    clip: str
    label: str
    caption: str


class AdapterReport(BaseModel):
    """An adapter's results on clips that it was not trained on.

    Attributes:
        adapter: name of the adapter.
        encoder: name of the encoder.
        blind: whether features were replaced by zeros.
        clips: number of clips.
        captions: results of its captions.
        classifier: the same results for the encoder's own classifier, whose prediction always states all attributes.
        mode: how questions were answered.
        questions: results by set of questions.
        examples: a few captions.
    """

    model_config = ConfigDict(frozen=True)

    adapter: str
    encoder: str
    blind: bool
    clips: int
    captions: CaptionFigures
    classifier: CaptionFigures
    mode: str
    questions: dict[str, QuestionFigures]
    examples: list[Example] = []
