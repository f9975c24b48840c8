"""Options of requests about videos, one class per route; they come from the query, form or JSON body."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from sefar_serve.language import CAPTION_PROMPT
from sefar_serve.recognition import Span
from sefar_serve.schemas.chat import NonBlank, Seed
from sefar_serve.schemas.model_name import ModelName


class ClipOptions(BaseModel):
    """Options of every request about videos."""

    model_config = ConfigDict(extra="forbid")

    model: ModelName = Field(
        None, description="name of the model, or name:version; null or `default` for the default model"
    )
    start: float | None = Field(None, ge=0, description="start of the clip in seconds; null for the first frame")
    end: float | None = Field(None, gt=0, description="end of the clip in seconds; null for the end of the video")
    modality: Literal["video"] = Field("video", description="accepted for compatibility")
    user: str | None = Field(None, description="accepted for compatibility; ignored")

    @property
    def span(self) -> Span:
        """Which part of each video to recognise."""
        return Span(self.start, self.end)


class WindowOptions(ClipOptions):
    """Options of requests that may use sliding windows over a long video."""

    window: float | None = Field(None, gt=0, description="length of sliding windows in seconds; gives a timeline")
    stride: float | None = Field(
        None, gt=0, description="seconds between the starts of windows; half a window by default"
    )

    @field_validator("stride")
    @classmethod
    def _needs_a_window(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and "window" in info.data and info.data["window"] is None:
            raise ValueError("needs `window`, the length of the windows")
        return value

    @property
    def span(self) -> Span:
        """Which part of each video to recognise, and in which windows."""
        return Span(self.start, self.end, self.window, self.stride)


class PoseOptions(WindowOptions):
    """Options of requests whose answers may have the joints that the model saw."""

    poses: bool = Field(
        False, description="whether answers include the joints of each frame; only for models that see joints"
    )


class ClassifyOptions(PoseOptions):
    """Options of POST /v1/classify."""

    top_k: int = Field(5, ge=1, le=10_000, description="number of labels")
    attributes: bool = Field(True, description="whether labels include their machine-readable attributes")
    raw_scores: bool = Field(False, description="whether labels include their logits")


def _split_commas(value: object) -> object:
    """Split a comma-separated field, or the list that a repeated query parameter gives, into one tuple."""
    parts = [value] if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)):
        return value
    return tuple(name.strip() for part in parts for name in str(part).split(","))


class CaptionOptions(WindowOptions):
    """Options of POST /v1/captions."""

    prompt: NonBlank = Field(CAPTION_PROMPT, description="prompt for the captioner")
    max_tokens: int | None = Field(
        None, ge=1, description="maximum length of a caption in tokens; lowered to the server's limit"
    )
    temperature: float = Field(0.0, ge=0, le=2, description="0 always takes the most likely token")
    seed: Seed | None = Field(None, description="the same seed gives the same caption")
    abstain_below: float | None = Field(
        None,
        ge=0,
        le=1,
        description="withhold a text that contradicts the classifier if η is below this; null for the server's default",
    )
    top_k: int = Field(5, ge=1, le=10_000, description="number of the classifier's labels")


class EmbedOptions(PoseOptions):
    """Options of POST /v1/embeddings."""

    include: Annotated[
        tuple[Literal["embedding", "tokens"], ...], BeforeValidator(_split_commas), Field(min_length=1)
    ] = Field(("embedding",), description="embedding, tokens, or both separated by a comma")
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="base64 is little-endian float32, as in OpenAI's API"
    )
    dimensions: int | None = Field(None, ge=1, description="if given, it must be the model's embedding width")
