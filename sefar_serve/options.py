"""What requests about videos may ask for, beside the videos: one class a route, read from query, form or JSON."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from sefar_serve.language import CAPTION_PROMPT
from sefar_serve.recognition import Span
from sefar_serve.schemas.chat import Seed
from sefar_serve.schemas.model_name import ModelName


class ClipOptions(BaseModel):
    """What every request about videos may say."""

    model_config = ConfigDict(extra="forbid")

    model: ModelName = Field(
        None, description="name of the model, or name:version; `default` or left out: the default model"
    )
    start: float | None = Field(None, ge=0, description="seconds; the clip begins here")
    end: float | None = Field(None, gt=0, description="seconds; the clip ends here")
    modality: Literal["video"] = Field("video", description="accepted for compatibility")
    user: str | None = Field(None, description="accepted for compatibility, not used")

    @property
    def span(self) -> Span:
        """Which part of each video to look at."""
        return Span(self.start, self.end)


class WindowOptions(ClipOptions):
    """Options of requests that may look at a long video through sliding windows."""

    window: float | None = Field(None, gt=0, description="seconds; sliding windows of this length give a timeline")
    stride: float | None = Field(None, gt=0, description="seconds between windows; half a window by default")

    @property
    def span(self) -> Span:
        """Which part of each video to look at, and through which windows."""
        return Span(self.start, self.end, self.window, self.stride)


class ClassifyOptions(WindowOptions):
    """Options of POST /v1/classify."""

    top_k: int = Field(5, ge=1, le=10_000, description="number of labels")
    attributes: bool = Field(True, description="whether labels carry their machine-readable attributes")
    raw_scores: bool = Field(False, description="whether labels carry their logits")


def _split_commas(value: object) -> object:
    """A comma-separated field, or several of them as a repeated query parameter gives, as one tuple."""
    parts = [value] if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)):
        return value
    return tuple(name.strip() for part in parts for name in str(part).split(","))


class CaptionOptions(WindowOptions):
    """Options of POST /v1/captions."""

    prompt: str = Field(CAPTION_PROMPT, min_length=1, description="what the captioner is asked")
    max_tokens: int | None = Field(None, ge=1, description="longest caption in tokens; lowered to the server's limit")
    temperature: float = Field(0.0, ge=0, le=2, description="0 takes the likeliest token each time")
    seed: Seed | None = Field(None, description="the same seed gives the same caption")
    abstain_below: float | None = Field(None, ge=0, le=1, description="replaces the server's own")
    top_k: int = Field(5, ge=1, le=10_000, description="number of the classifier's labels")


class EmbedOptions(WindowOptions):
    """Options of POST /v1/embeddings."""

    include: Annotated[
        tuple[Literal["embedding", "tokens"], ...], BeforeValidator(_split_commas), Field(min_length=1)
    ] = Field(("embedding",), description="embedding, tokens, or both separated by a comma")
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="base64 is little-endian float32, as OpenAI's"
    )
    dimensions: int | None = Field(None, ge=1, description="must be the model's own width when given")
