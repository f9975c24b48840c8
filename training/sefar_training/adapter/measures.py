"""The figures of captions and answers: shares with their intervals, and what they are counted from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, computed_field

from ..evaluation.measures import Z95, wilson_interval
from .attributes import Attributes


class Share(BaseModel):
    """So many of so many, with Wilson's 95 % interval.

    Attributes:
        right: how many.
        count: of how many, at least 1.
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
        """The share of true ones."""
        return cls(right=sum(map(bool, right)), count=len(right))


class CaptionFigures(BaseModel):
    """How well sentences state the attributes of what they describe.

    Attributes:
        attributes: for each attribute the share of clips whose sentence states it rightly; one that is not stated
            counts as wrong.
        mean: mean of these over attributes, in [0, 1].
        mean_half: half-width of its 95 % interval; a clip's attributes stand and fall together, so it is taken
            over clips.
        wrong: of the attributes stated, those that are not true: made up.
        unstated: of all attributes, those that the sentence leaves out.
        exact: clips whose sentence states all attributes rightly.
    """

    model_config = ConfigDict(frozen=True)

    attributes: dict[str, Share]
    mean: float
    mean_half: float
    wrong: Share | None
    unstated: Share
    exact: Share


def caption_figures(stated: Sequence[Attributes], true: Sequence[Attributes]) -> CaptionFigures:
    """Compare what sentences state with what is so.

    Args:
        stated: of each clip's sentence; attributes that the clip does not have are not looked at.
        true: of each clip, at least one clip, all with the same names.
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
    """How well a set of questions is answered.

    Attributes:
        adapter: questions answered rightly by the language model.
        classifier: by the classifier alone, taking the option it finds most probable; None where it does not know
            the options.
        consistency: of the questions, those to which the same is answered with the options in another order.
        duplicates: like `adapter`, of the questions with options that say the same, which are not counted above.
    """

    model_config = ConfigDict(frozen=True)

    adapter: Share | None
    classifier: Share | None = None
    consistency: Share | None = None
    duplicates: Share | None = None


class Example(BaseModel):
    """One clip, what it shows and what was said about it."""

    model_config = ConfigDict(frozen=True)

    clip: str
    label: str
    caption: str


class AdapterReport(BaseModel):
    """What an adapter was measured to do on clips that it was not trained on.

    Attributes:
        adapter: its name.
        encoder: name of the encoder.
        blind: its features were zeroed.
        clips: how many.
        captions: figures of its captions.
        classifier: the same figures of the encoder's own classifier, whose answer always states all attributes.
        mode: how questions were answered.
        questions: figures by set of questions.
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
