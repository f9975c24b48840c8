"""The gateway's texts about clips, as frozen objects: captions, and answers to questions."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from sefar_client import notebook
from sefar_client.base import Result, present
from sefar_client.clips import ClipInfo, Label, notes, with_notes
from sefar_client.warned import warning_lines

Agreement = Literal["agree", "disagree"]
"""Whether a text and the classifier name the same class."""


def _with_notice(text: str, notice: str | None) -> str:
    return f"{text} [{notice}]" if notice else text


class TokenUsage(Result):
    """Tokens used by the language model."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CaptionUsage(TokenUsage):
    """Tokens used by the language model, and clips."""

    clips: int


class WindowCaption(Result):
    """The caption of one sliding window, from `start` to `end` seconds."""

    start: float
    end: float
    clip_id: str | None
    caption: str
    finish_reason: Literal["stop", "length"]
    agreement: Agreement | None
    named_label: str | None
    notice: str | None
    abstained: bool
    labels: list[Label]
    reliability: float
    familiarity: float | None = None
    unfamiliar: bool = False
    warnings: list[str] = Field(default_factory=list)

    def _shown(self) -> dict[str, Any]:
        return present(
            start=self.start,
            end=self.end,
            caption=self.caption,
            notice=self.notice,
            reliability=self.reliability,
            unfamiliar=self.unfamiliar or None,
            warnings=self.warnings or None,
        )


class Caption(Result):
    """The answer of `caption`: a sentence, and the classifier's labels for the same clip.

    Attributes:
        clip_id: pass ``sefar://CLIP_ID`` to `ask` to ask about the clip.
        notice: warning as text if the caption and the classifier disagree.
        timeline: one entry per sliding window, if windows were requested; the most reliable one is the answer.
    """

    object: Literal["caption"]
    index: int
    name: str
    clip_id: str | None
    caption: str
    finish_reason: Literal["stop", "length"]
    agreement: Agreement | None
    named_label: str | None
    notice: str | None
    abstained: bool
    labels: list[Label]
    reliability: float
    familiarity: float | None = None
    unfamiliar: bool = False
    clip: ClipInfo
    timeline: list[WindowCaption] | None
    model: str
    version: str
    usage: CaptionUsage

    def _shown(self) -> dict[str, Any]:
        windows = self.timeline and len(self.timeline)
        return present(
            name=self.name,
            caption=self.caption,
            notice=self.notice,
            reliability=self.reliability,
            unfamiliar=self.unfamiliar or None,
            windows=windows,
        )

    def __str__(self) -> str:
        text = f"{self.name}: {_with_notice(self.caption, self.notice)}"
        return with_notes(text, warning_lines(self.clip, self.timeline))

    def _repr_html_(self) -> str:
        scores = [(one.label, one.score) for one in self.labels]
        caption = notebook.text(_with_notice(self.caption, self.notice))
        labels = notebook.labels(self.name, scores, self.reliability, self.unfamiliar)
        return labels + notes(self.clip, self.timeline) + caption


class SeenClip(Result):
    """A clip of a question, with the classifier's labels."""

    clip_id: str | None
    name: str
    labels: list[Label]
    reliability: float
    familiarity: float | None = None
    unfamiliar: bool = False
    clip: ClipInfo


class Choice(Result):
    """One option of a multiple-choice question; the probabilities of all options add up to 1."""

    letter: str
    text: str
    logprob: float
    tokens: int
    probability: float


class SefarBlock(Result):
    """The classifier's labels, and whether the text agrees with them."""

    clips: list[SeenClip]
    agreement: Agreement | None
    named_label: str | None
    notice: str | None
    abstained: bool
    options: list[Choice] | None


class AssistantMessage(Result):
    """The message of the assistant."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(Result):
    """The only choice."""

    index: int
    message: AssistantMessage
    logprobs: None
    finish_reason: Literal["stop", "length"]


class ChatCompletion(Result):
    """The answer of `ask`, in the shape of OpenAI's chat completions."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: TokenUsage
    sefar: SefarBlock

    @property
    def text(self) -> str:
        """The text of the answer."""
        return self.choices[0].message.content

    def _shown(self) -> dict[str, Any]:
        return present(text=self.text, notice=self.sefar.notice, model=self.model)

    def __str__(self) -> str:
        lines = dict.fromkeys(line for clip in self.sefar.clips for line in warning_lines(clip.clip))
        return with_notes(_with_notice(self.text, self.sefar.notice), list(lines))

    def _repr_html_(self) -> str:
        options = [(one.text, one.probability) for one in self.sefar.options or ()]
        return notebook.text(str(self)) + (notebook.bars(options) if options else "")
