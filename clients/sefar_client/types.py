"""The gateway's answers as typed dictionaries: the JSON itself, with names a type checker knows."""

from __future__ import annotations

from typing import Literal, TypedDict

Vector = list[float] | str


class Label(TypedDict):
    """One class and how much the model believes in it."""

    label: str
    index: int
    score: float
    logit: float | None
    attributes: dict[str, str | float]


class SourceFrame(TypedDict):
    """Where a frame that the model saw came from."""

    index: int
    time: float
    element: str


class ClipInfo(TypedDict):
    """What was decoded."""

    frame_count: int
    duration: float
    width: int
    height: int
    stream: int
    frames: list[SourceFrame]
    corrupt_frames: list[int]
    warnings: list[str]


class WindowLabels(TypedDict):
    """The answer for one sliding window."""

    start: float
    end: float
    labels: list[Label]
    reliability: float


class Classification(TypedDict):
    """The answer for one clip."""

    object: Literal["classification"]
    index: int
    name: str
    clip_id: str | None
    labels: list[Label]
    reliability: float
    clip: ClipInfo
    timeline: list[WindowLabels] | None


class WindowEmbedding(TypedDict):
    """The vectors of one sliding window."""

    start: float
    end: float
    embedding: Vector | None
    tokens: list[Vector] | None


class Embedding(TypedDict):
    """The vectors of one clip."""

    object: Literal["embedding"]
    index: int
    name: str
    clip_id: str | None
    embedding: Vector | None
    tokens: list[Vector] | None
    clip: ClipInfo
    timeline: list[WindowEmbedding] | None


class ErrorBody(TypedDict):
    """What went wrong with a clip."""

    message: str
    type: str
    param: str | None
    code: str


class ItemError(TypedDict):
    """A clip that failed among others."""

    object: Literal["error"]
    index: int
    name: str
    error: ErrorBody


class Usage(TypedDict):
    """Clips and model frames spent."""

    prompt_tokens: int
    total_tokens: int
    clips: int


Agreement = Literal["agree", "disagree"]
"""Whether a text and the classifier name the same class."""


class WindowCaption(TypedDict):
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


class Caption(TypedDict):
    """One clip in a sentence; with windows, the most reliable one."""

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


class TokenUsage(TypedDict):
    """Tokens of the language model."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CaptionUsage(TokenUsage):
    """Tokens of the language model, and clips."""

    clips: int


class CaptionsResponse(TypedDict):
    """Answer of `caption`."""

    object: Literal["list"]
    model: str
    version: str
    data: list[Caption | ItemError]
    usage: CaptionUsage


class SeenClip(TypedDict):
    """A clip of a conversation, as the classifier sees it."""

    clip_id: str | None
    name: str
    labels: list[Label]
    reliability: float
    clip: ClipInfo


class Choice(TypedDict):
    """One option of a multiple-choice question."""

    letter: str
    text: str
    logprob: float
    tokens: int
    probability: float


class SefarBlock(TypedDict):
    """What the classifier finds, and whether the text agrees."""

    clips: list[SeenClip]
    agreement: Agreement | None
    named_label: str | None
    notice: str | None
    abstained: bool
    options: list[Choice] | None


class AssistantMessage(TypedDict):
    """What the assistant says."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(TypedDict):
    """The one answer."""

    index: int
    message: AssistantMessage
    logprobs: None
    finish_reason: Literal["stop", "length"]


class ChatCompletion(TypedDict):
    """Answer of `ask`."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: TokenUsage
    sefar: SefarBlock


class ClassifyResponse(TypedDict):
    """Answer of `classify`."""

    object: Literal["list"]
    model: str
    version: str
    data: list[Classification | ItemError]
    usage: Usage


class EmbeddingsResponse(TypedDict):
    """Answer of `embed`."""

    object: Literal["list"]
    model: str
    version: str
    data: list[Embedding | ItemError]
    usage: Usage


class Model(TypedDict):
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


class LanguageModel(TypedDict):
    """The captioner, where there is one."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    encoder: str | None
    language_model: str
    backend: str
    context_length: int
