"""The JSON of labels and embeddings: what the HTTP API answers and what `sefar --json` prints."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from sefar_serve.schemas.pose import PoseInfo
from sefar_serve.schemas.problem import ItemError


class Label(BaseModel):
    """One class and its score."""

    label: str
    index: int = Field(description="class number, the line of the label in the model's label file")
    score: float = Field(description="softmax probability in [0, 1]")
    logit: float | None = Field(None, description="unnormalised score, if raw_scores is set")
    attributes: dict[str, str | float] = Field(
        default_factory=dict, description="machine-readable parts of the label, if attributes is set"
    )


class SourceFrame(BaseModel):
    """One of the frames that the model saw."""

    index: int = Field(description="frame number in the video, in order of presentation")
    time: float = Field(description="seconds after the video's first frame")
    element: str = Field(description="temporal element: fine_1 … fine_M, or context")


class ClipInfo(BaseModel):
    """The decoded clip, and the frames that the model saw, in the model's order."""

    frame_count: int = Field(description="number of frames in the clip from which the model's frames were chosen")
    duration: float = Field(description="length of the whole video in seconds")
    width: int = Field(description="upright display width in square pixels")
    height: int
    stream: int = Field(description="number of the video stream in its container")
    frames: list[SourceFrame]
    corrupt_frames: list[int] = Field(description="numbers of the frames that the decoder flagged as damaged")
    warnings: list[str] = Field(description="about the video and these frames, e.g. that no person was found")
    pose: PoseInfo | None = Field(None, description="the persons in these frames; null if the model sees no joints")


FAMILIARITY = "share of held-out clips that were less typical of what the model knows; null if it does not measure it"
"""Description of `familiarity`."""

UNFAMILIAR = "whether familiarity is below the server's setting: the labels then mean little"
"""Description of `unfamiliar`."""

WINDOW_WARNINGS = "about the frames of this window, e.g. that no person was found"
"""Description of `warnings` of a window."""


class WindowLabels(BaseModel):
    """The answer for one sliding window."""

    start: float = Field(description="seconds")
    end: float
    labels: list[Label]
    reliability: float
    familiarity: float | None = Field(None, description=FAMILIARITY)
    unfamiliar: bool = Field(False, description=UNFAMILIAR)
    pose: PoseInfo | None = Field(None, description="the persons in the window, if poses is set")
    warnings: list[str] = Field(description=WINDOW_WARNINGS)


class Segment(BaseModel):
    """A stretch of a video with one label, merged from sliding windows."""

    start: float = Field(description="seconds")
    end: float
    label: str
    index: int = Field(description="class number")
    score: float = Field(description="mean probability of the label over the segment, in [0, 1]")


class Classification(BaseModel):
    """The answer for one clip; with sliding windows, that of the most reliable one, and all in `timeline`.

    Windows in which a model of joints found no person count only if none has one.
    """

    object: Literal["classification"] = "classification"
    index: int = Field(description="position of the clip in the request")
    name: str
    clip_id: str | None = Field(None, description="send sefar://CLIP_ID to ask about it; null with sliding windows")
    labels: list[Label] = Field(description="the top_k classes, best first")
    reliability: float = Field(
        description="Adaptive-Regulation coefficient η in (0, 1]: near 1 if the model's Monte-Carlo samples "
        "are confident and agree with each other"
    )
    familiarity: float | None = Field(None, description=FAMILIARITY)
    unfamiliar: bool = Field(False, description=UNFAMILIAR)
    clip: ClipInfo
    timeline: list[WindowLabels] | None = None
    segments: list[Segment] | None = Field(
        None, description="the windows merged to stretches with one label, in order of time; null without `window`"
    )


Vector = list[float] | str
"""Floats, or base64 of little-endian float32."""


class WindowEmbedding(BaseModel):
    """The vectors of one sliding window."""

    start: float
    end: float
    embedding: Vector | None = None
    tokens: list[Vector] | None = None
    pose: PoseInfo | None = Field(None, description="the persons in the window, if poses is set")
    warnings: list[str] = Field(description=WINDOW_WARNINGS)


class Embedding(BaseModel):
    """The vectors of one clip; with sliding windows, their mean here and each window's in `timeline`.

    Windows in which a model of joints found no person are left out of the mean, unless none has one.
    """

    object: Literal["embedding"] = "embedding"
    index: int
    name: str
    clip_id: str | None = Field(None, description="send sefar://CLIP_ID to ask about it; null with sliding windows")
    embedding: Vector | None = Field(None, description="the clip embedding, if requested")
    tokens: list[Vector] | None = Field(None, description="one vector per element, the context last, if requested")
    clip: ClipInfo
    timeline: list[WindowEmbedding] | None = None


class Usage(BaseModel):
    """Clips and model frames used; the token counts have OpenAI's names and count model frames."""

    prompt_tokens: int
    total_tokens: int
    clips: int


class ClassifyResponse(BaseModel):
    """Response of POST /v1/classify: one entry per clip, in order."""

    object: Literal["list"] = "list"
    model: str
    version: str
    data: list[Classification | ItemError]
    usage: Usage


class EmbeddingsResponse(BaseModel):
    """Response of POST /v1/embeddings: one entry per clip, in order."""

    object: Literal["list"] = "list"
    model: str
    version: str
    data: list[Embedding | ItemError]
    usage: Usage


class Model(BaseModel):
    """One served model."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "sefar-serve"
    version: str
    dataset: str
    sample_frames: list[int]
    layout: str
    stream: str = Field(description="what it sees: `rgb` (pictures), `pose` (joints) or `both`")
    size: int | None = Field(description="side of its pictures in pixels; null if it sees none")
    embedding_dim: int
    token_dim: int
    labels: list[str]


class LanguageModel(BaseModel):
    """The captioner, if there is one."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "sefar-serve"
    encoder: str | None = Field(description="the model whose features it reads; null if no served model fits")
    language_model: str
    backend: str
    context_length: int


class ModelList(BaseModel):
    """Response of GET /v1/models."""

    object: Literal["list"] = "list"
    data: list[Model | LanguageModel]
