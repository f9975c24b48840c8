"""The gateway's answers as frozen objects: vectors are numpy arrays, and each shows itself in a notebook."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from typing import Annotated, Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, PlainSerializer, PlainValidator

from sefar_client import notebook

Video = str | PathLike[str] | bytes | bytearray | memoryview | BinaryIO
"""A path; an ``http(s)://`` URL of a host that the gateway fetches from; the bytes of a video; an open file.

An open file is sent from its start, or as it comes where it cannot be rewound."""


def _decoded(value: Any) -> NDArray[np.float32]:
    """Floats, or base64 of little-endian float32."""
    if isinstance(value, str):
        return np.frombuffer(base64.b64decode(value), "<f4").astype(np.float32)
    return np.asarray(value, np.float32)


def _vector(value: Any) -> NDArray[np.float32] | None:
    return None if value is None else _decoded(value)


def _vectors(value: Any) -> NDArray[np.float32] | None:
    return None if value is None else np.stack([_decoded(row) for row in value])


def _lists(value: NDArray[np.float32] | None) -> list[Any] | None:
    return None if value is None else value.tolist()


Vector = Annotated[NDArray[np.float32] | None, PlainValidator(_vector), PlainSerializer(_lists)]
"""(D,) float32; None where it was not asked for."""
Vectors = Annotated[NDArray[np.float32] | None, PlainValidator(_vectors), PlainSerializer(_lists)]
"""(T, D) float32; None where they were not asked for."""

Agreement = Literal["agree", "disagree"]
"""Whether a text and the classifier name the same class."""


class Result(BaseModel):
    """What all answers have in common: `model_dump(mode="json")` gives the JSON; a newer gateway's fields are kept."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    def __eq__(self, other: object) -> bool:
        # Arrays do not compare to one truth; their lists do.
        return type(self) is type(other) and isinstance(other, Result) and self.model_dump() == other.model_dump()

    def __hash__(self) -> int:
        # None would have pydantic write one, which fails at the first array, list or dictionary in it.
        raise TypeError(f"unhashable type: {type(self).__name__!r}")

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        # Of an array, its shape: the numbers fill a screen.
        for name, value in super().__repr_args__():
            yield name, _Shape(value) if isinstance(value, np.ndarray) else value


class _Shape:
    """What stands for an array where a result is written out."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._said = f"<{array.dtype} {array.shape}>"

    def __repr__(self) -> str:
        return self._said


def _noticed(said: str, notice: str | None) -> str:
    return f"{said} [{notice}]" if notice else said


class Label(Result):
    """One class and how much the model believes in it."""

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
    """What was decoded; `duration` in seconds, width and height in pixels."""

    frame_count: int
    duration: float
    width: int
    height: int
    stream: int
    frames: list[SourceFrame]
    corrupt_frames: list[int]
    warnings: list[str]


class Usage(Result):
    """Clips and model frames spent."""

    prompt_tokens: int
    total_tokens: int
    clips: int


class WindowLabels(Result):
    """The answer for one sliding window, from `start` to `end` seconds."""

    start: float
    end: float
    labels: list[Label]
    reliability: float


class Classification(Result):
    """The answer of `classify`: the classes, best first, and how far to trust them.

    Attributes:
        clip_id: `ask` about it as ``sefar://CLIP_ID``.
        reliability: η in (0, 1], near 1 when the model's Monte-Carlo samples are sure and steady.
        timeline: one entry per sliding window, when windows were asked for.
    """

    object: Literal["classification"]
    index: int
    name: str
    clip_id: str | None
    labels: list[Label]
    reliability: float
    clip: ClipInfo
    timeline: list[WindowLabels] | None
    model: str
    version: str
    usage: Usage

    @property
    def best(self) -> Label:
        """The likeliest class."""
        return self.labels[0]

    def __str__(self) -> str:
        return f"{self.name}: {self.best.label} ({self.best.score:.0%}), η {self.reliability:.2f}"

    def _repr_html_(self) -> str:
        return notebook.labels(self.name, [(one.label, one.score) for one in self.labels], self.reliability)


class WindowEmbedding(Result):
    """The vectors of one sliding window, from `start` to `end` seconds."""

    start: float
    end: float
    embedding: Vector
    tokens: Vectors


class Embedding(Result):
    """The answer of `embed`.

    Attributes:
        clip_id: `ask` about it as ``sefar://CLIP_ID``.
        embedding: (D,) float32, or None where only tokens were asked for; with windows, the first window's.
        tokens: (T, D') float32, one per temporal element, the context last; None unless asked for.
        timeline: one entry per sliding window, when windows were asked for.
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

    def __str__(self) -> str:
        arrays = {"embedding": self.embedding, "tokens": self.tokens}
        shapes = [f"{name} {array.shape}" for name, array in arrays.items() if array is not None]
        return f"{self.name}: {', '.join(shapes)} float32"

    def _repr_html_(self) -> str:
        return notebook.text(str(self))


class TokenUsage(Result):
    """Tokens of the language model."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CaptionUsage(TokenUsage):
    """Tokens of the language model, and clips."""

    clips: int


class WindowCaption(Result):
    """One sliding window in a sentence."""

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


class Caption(Result):
    """The answer of `caption`: a sentence, and what the classifier says of the same clip.

    Attributes:
        clip_id: `ask` about it as ``sefar://CLIP_ID``.
        notice: where the two disagree, in words.
        timeline: one entry per sliding window, when windows were asked for; the most reliable one is the answer.
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
    clip: ClipInfo
    timeline: list[WindowCaption] | None
    model: str
    version: str
    usage: CaptionUsage

    def __str__(self) -> str:
        return f"{self.name}: {_noticed(self.caption, self.notice)}"

    def _repr_html_(self) -> str:
        scores = [(one.label, one.score) for one in self.labels]
        said = notebook.text(_noticed(self.caption, self.notice))
        return notebook.labels(self.name, scores, self.reliability) + said


class SeenClip(Result):
    """A clip of a question, as the classifier sees it."""

    clip_id: str | None
    name: str
    labels: list[Label]
    reliability: float
    clip: ClipInfo


class Choice(Result):
    """One option of a multiple-choice question; `probability` is among the options."""

    letter: str
    text: str
    logprob: float
    tokens: int
    probability: float


class SefarBlock(Result):
    """What the classifier finds, and whether the text agrees."""

    clips: list[SeenClip]
    agreement: Agreement | None
    named_label: str | None
    notice: str | None
    abstained: bool
    options: list[Choice] | None


class AssistantMessage(Result):
    """What the assistant says."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(Result):
    """The one answer."""

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
        """What was answered."""
        return self.choices[0].message.content

    def __str__(self) -> str:
        return _noticed(self.text, self.sefar.notice)

    def _repr_html_(self) -> str:
        options = [(one.text, one.probability) for one in self.sefar.options or ()]
        return notebook.text(str(self)) + (notebook.bars(options) if options else "")


class Model(Result):
    """One served model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    version: str
    dataset: str
    sample_frames: list[int]
    layout: str
    size: int
    embedding_dim: int
    token_dim: int
    labels: list[str]


class LanguageModel(Result):
    """The captioner, where there is one; `encoder` is the model whose features it reads."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    encoder: str | None
    language_model: str
    backend: str
    context_length: int


class ErrorBody(Result):
    """What went wrong with a job."""

    message: str
    type: str
    param: str | None
    code: str


class Job(Result):
    """A batch job and how far it is; times are Unix seconds.

    Attributes:
        total: clips, each counted once.
        done: of these, looked at, failed ones included.
        failed: of these, clips whose row is an error.
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
        """Whether nothing more will happen to it."""
        return self.status in ("completed", "failed", "cancelled")

    def __str__(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        why = f": {self.error.message}" if self.error else ""
        return f"{self.id}: {self.status}, {self.done} of {self.total} clips{failed}{why}"

    def _repr_html_(self) -> str:
        return notebook.text(str(self), wrong=self.status == "failed")


@dataclass(frozen=True)
class Failure:
    """A video among others that was refused, or could not be read.

    Attributes:
        video: as it was given.
        error: why; `raise failure.error` where that is wanted. From a gateway a `GatewayError`, or an `OSError` if
            the file cannot be read.
    """

    video: Video
    error: Exception

    def __str__(self) -> str:
        return str(self.error)

    def _repr_html_(self) -> str:
        return notebook.text(str(self), wrong=True)
