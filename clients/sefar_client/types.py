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
