"""The gateway's answers as frozen objects. Vectors are numpy arrays, and notebooks show each object as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, BinaryIO, Literal

from pydantic import Field

from sefar_client import notebook
from sefar_client.base import Result, Shown, Vector, Vectors, present
from sefar_client.poses import PoseInfo
from sefar_client.warned import Warned, warning_lines

Video = str | PathLike[str] | bytes | bytearray | memoryview | BinaryIO
"""A path; an ``http(s)://`` URL of a host that the gateway fetches from; the bytes of a video; or an open file.

An open file is sent from its start, or from its current position if it cannot be rewound."""


Agreement = Literal["agree", "disagree"]
"""Whether a text and the classifier name the same class."""


def _with_notice(text: str, notice: str | None) -> str:
    return f"{text} [{notice}]" if notice else text


def _with_notes(text: str, notes: list[str]) -> str:
    return f"{text} [{'; '.join(notes)}]" if notes else text


class Label(Result):
    """One class and its score."""

    label: str
    index: int
    score: float
    logit: float | None
    attributes: dict[str, str | float]


class SourceFrame(Result):
    """Where a frame that the model saw came from; `time` in seconds."""

    index: int
    time: float
    element: str


class ClipInfo(Result):
    """What was decoded; `duration` in seconds, width and height in pixels; `pose` is None without joints."""

    frame_count: int
    duration: float
    width: int
    height: int
    stream: int
    frames: list[SourceFrame]
    corrupt_frames: list[int]
    warnings: list[str]
    pose: PoseInfo | None = None


def _notes(clip: ClipInfo, windows: Sequence[Warned] | None = None) -> str:
    """Lines for notebooks: about the persons in a clip, and warnings in red, e.g. that no person was found."""
    warnings = warning_lines(clip, windows)
    found = clip.pose is not None and any(clip.pose.found)
    persons = "" if clip.pose is None or (warnings and not found) else notebook.text(str(clip.pose), wrong=not found)
    return persons + "".join(notebook.text(line, wrong=True) for line in warnings)


def _mark(unfamiliar: bool) -> str:
    """What follows the labels of a clip that is unlike what the model knows."""
    return ", unfamiliar" if unfamiliar else ""


class Usage(Result):
    """Clips and model frames used."""

    prompt_tokens: int
    total_tokens: int
    clips: int


class WindowLabels(Result):
    """The labels of one sliding window, from `start` to `end` seconds."""

    start: float
    end: float
    labels: list[Label]
    reliability: float
    familiarity: float | None = None
    unfamiliar: bool = False
    pose: PoseInfo | None = None
    warnings: list[str] = Field(default_factory=list)

    def _shown(self) -> dict[str, Any]:
        best = self.labels[0]
        return present(
            start=self.start,
            end=self.end,
            label=best.label,
            score=best.score,
            reliability=self.reliability,
            unfamiliar=self.unfamiliar or None,
            warnings=self.warnings or None,
        )

    def __str__(self) -> str:
        best = self.labels[0]
        text = f"{self.start:.1f}–{self.end:.1f} s: {best.label} ({best.score:.0%}), η {self.reliability:.2f}"
        text += _mark(self.unfamiliar)
        return _with_notes(text, warning_lines(self))


class Segment(Result):
    """A stretch of a video with one label, from `start` to `end` seconds, merged from sliding windows.

    `score` is the mean probability of the label over it, in [0, 1].
    """

    start: float
    end: float
    label: str
    index: int
    score: float

    def __str__(self) -> str:
        return f"{self.start:.1f}–{self.end:.1f} s: {self.label} ({self.score:.0%})"


class Classification(Result):
    """The answer of `classify`: the classes, best first, and their reliability.

    Attributes:
        clip_id: pass ``sefar://CLIP_ID`` to `ask` to ask about the clip.
        reliability: η in (0, 1], near 1 if the model's Monte-Carlo samples are confident and agree.
        familiarity: share of held-out clips that were less typical of what the model knows; None if the model does not
            measure it.
        unfamiliar: whether familiarity is below the server's setting: the labels then mean little.
        timeline: one entry per sliding window, if windows were requested.
        segments: the windows merged to stretches with one label, in order of time; None without windows. Write them
            to files of other programs with `format_segments`.
    """

    object: Literal["classification"]
    index: int
    name: str
    clip_id: str | None
    labels: list[Label]
    reliability: float
    familiarity: float | None = None
    unfamiliar: bool = False
    clip: ClipInfo
    timeline: list[WindowLabels] | None
    segments: list[Segment] | None = None
    model: str
    version: str
    usage: Usage

    @property
    def best(self) -> Label:
        """The most likely class."""
        return self.labels[0]

    def _shown(self) -> dict[str, Any]:
        best = self.best
        return present(
            name=self.name,
            label=best.label,
            score=best.score,
            reliability=self.reliability,
            unfamiliar=self.unfamiliar or None,
            windows=self.timeline and len(self.timeline),
            segments=self.segments and len(self.segments),
            warnings=self.clip.warnings or None,
        )

    def __str__(self) -> str:
        text = f"{self.name}: {self.best.label} ({self.best.score:.0%}), η {self.reliability:.2f}"
        text += _mark(self.unfamiliar)
        return _with_notes(text, warning_lines(self.clip, self.timeline))

    def _repr_html_(self) -> str:
        scores = [(one.label, one.score) for one in self.labels]
        segments = "".join(notebook.text(str(one)) for one in self.segments or ())
        head = notebook.labels(self.name, scores, self.reliability, self.unfamiliar)
        return head + _notes(self.clip, self.timeline) + segments


class WindowEmbedding(Result):
    """The vectors of one sliding window, from `start` to `end` seconds."""

    start: float
    end: float
    embedding: Vector
    tokens: Vectors
    pose: PoseInfo | None = None
    warnings: list[str] = Field(default_factory=list)

    def _shown(self) -> dict[str, Any]:
        return present(
            start=self.start,
            end=self.end,
            embedding=self.embedding,
            tokens=self.tokens,
            pose=self.pose,
            warnings=self.warnings or None,
        )


class Embedding(Result):
    """The answer of `embed`.

    Attributes:
        clip_id: pass ``sefar://CLIP_ID`` to `ask` to ask about the clip.
        embedding: (D,) float32; None if only tokens were requested. With windows, the mean over them.
        tokens: (T, D') float32, one per temporal element, the context last; None unless requested.
        timeline: one entry per sliding window, if windows were requested.
    """

    object: Literal["embedding"]
    index: int
    name: str
    clip_id: str | None
    embedding: Vector
    tokens: Vectors
    clip: ClipInfo
    timeline: list[WindowEmbedding] | None
    model: str
    version: str
    usage: Usage

    def _shown(self) -> dict[str, Any]:
        windows = self.timeline and len(self.timeline)
        warnings = self.clip.warnings or None
        return present(name=self.name, embedding=self.embedding, tokens=self.tokens, windows=windows, warnings=warnings)

    @property
    def _line(self) -> str:
        arrays = {"embedding": self.embedding, "tokens": self.tokens}
        shapes = [f"{name} {array.shape}" for name, array in arrays.items() if array is not None]
        return f"{self.name}: {', '.join(shapes)} float32"

    def __str__(self) -> str:
        return _with_notes(self._line, warning_lines(self.clip, self.timeline))

    def _repr_html_(self) -> str:
        return notebook.text(self._line) + _notes(self.clip, self.timeline)


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
        return _with_notes(text, warning_lines(self.clip, self.timeline))

    def _repr_html_(self) -> str:
        scores = [(one.label, one.score) for one in self.labels]
        caption = notebook.text(_with_notice(self.caption, self.notice))
        labels = notebook.labels(self.name, scores, self.reliability, self.unfamiliar)
        return labels + _notes(self.clip, self.timeline) + caption


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
        notes = dict.fromkeys(line for clip in self.sefar.clips for line in warning_lines(clip.clip))
        return _with_notes(_with_notice(self.text, self.sefar.notice), list(notes))

    def _repr_html_(self) -> str:
        options = [(one.text, one.probability) for one in self.sefar.options or ()]
        return notebook.text(str(self)) + (notebook.bars(options) if options else "")


class Model(Result):
    """One served model. `stream` says what it sees: ``rgb``, ``pose`` or ``both``; `size` is None without pictures."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    version: str
    dataset: str
    sample_frames: list[int]
    layout: str
    stream: str = "rgb"
    size: int | None
    embedding_dim: int
    token_dim: int
    labels: list[str]

    def _shown(self) -> dict[str, Any]:
        return {"id": self.id, "version": self.version, "dataset": self.dataset, "labels": self.labels}


class LanguageModel(Result):
    """The captioner, if there is one; `encoder` is the model whose features it reads."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    encoder: str | None
    language_model: str
    backend: str
    context_length: int


class ErrorBody(Result):
    """Why a job failed."""

    message: str
    type: str
    param: str | None
    code: str


class Job(Result):
    """A batch job and its progress; times are Unix seconds.

    Attributes:
        total: number of clips, each counted once.
        done: number of clips processed, including failed ones.
        failed: number of clips whose row is an error.
        error: why the job as a whole failed.
    """

    id: str
    object: Literal["job"]
    status: Literal["queued", "running", "completed", "failed", "cancelled"]
    created: int
    started: int | None
    finished: int | None
    total: int
    done: int
    failed: int
    model: str
    version: str
    error: ErrorBody | None

    @property
    def is_finished(self) -> bool:
        """Whether it is completed, failed or cancelled."""
        return self.status in ("completed", "failed", "cancelled")

    def _shown(self) -> dict[str, Any]:
        error = self.error and self.error.message
        return present(
            id=self.id, status=self.status, done=self.done, total=self.total, failed=self.failed, error=error
        )

    def __str__(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        why = f": {self.error.message}" if self.error else ""
        clips = "1 clip" if self.total == 1 else f"{self.total} clips"
        return f"{self.id}: {self.status}, {self.done} of {clips}{failed}{why}"

    def _repr_html_(self) -> str:
        return notebook.text(str(self), wrong=self.status == "failed")


@dataclass(frozen=True)
class Failure:
    """A video among others that was refused, or could not be read.

    Attributes:
        video: the video as it was given.
        error: the reason; use `raise failure.error` to raise it. From a gateway a `GatewayError`, or an `OSError` if
            the file cannot be read.
    """

    video: Video
    error: Exception

    def __repr__(self) -> str:
        given = self.video
        video = Shown(f"<{len(given)} bytes>") if isinstance(given, bytes | bytearray | memoryview) else given
        return f"Failure(video={video!r}, error={self.error!r})"

    def __str__(self) -> str:
        return str(self.error)

    def _repr_html_(self) -> str:
        return notebook.text(str(self), wrong=True)
