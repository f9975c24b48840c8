"""Options of requests about videos, one class per route; they come from the query, form or JSON body."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from sefar_serve.language import CAPTION_PROMPT
from sefar_serve.recognition import Span
from sefar_serve.schemas.chat import NonBlank, Seed
from sefar_serve.schemas.model_name import ModelName
from sefar_serve.segments import BACKGROUND, MIN_LENGTH, SMOOTHING, Merging, background_class

T = TypeVar("T")

MAX_LENGTHS = 64
"""Lengths of windows in a request."""

MAX_NAME = 1024
"""Characters of a label in a request; messages repeat it."""


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


def _check_window(value: T, info: ValidationInfo) -> T:
    """Check that an option about sliding windows comes with them."""
    if value is not None and "window" in info.data and info.data["window"] is None:
        raise ValueError("needs `window`, the length of the windows")
    return value


def _lengths(value: object) -> tuple[float, ...]:
    """Lengths of windows: a number, a list of them, or their text, which a query and a form have, with commas."""
    parts = value if isinstance(value, list | tuple) else [value]
    texts = [text for part in parts for text in (part.split(",") if isinstance(part, str) else [part])]
    if not texts:
        raise ValueError("send at least one length")
    if len(texts) > MAX_LENGTHS:
        raise ValueError(f"send at most {MAX_LENGTHS} lengths, not {len(texts)}")
    return tuple(map(_length, texts))


def _length(value: object) -> float:
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise ValueError("must be a number of seconds or a list of them")
    try:
        number = float(value)
    except ValueError as error:
        raise ValueError(f"{value!r} is not a number") from error
    if not number > 0:
        raise ValueError(f"must be greater than 0, not {value}")
    return number


Lengths = Annotated[tuple[float, ...], BeforeValidator(_lengths, json_schema_input_type=float | list[float] | str)]


class WindowOptions(ClipOptions):
    """Options of requests that may use sliding windows over a long video."""

    window: Lengths | None = Field(
        None, description="length of sliding windows in seconds, or several lengths; gives a timeline"
    )
    stride: float | None = Field(
        None, gt=0, description="seconds between the starts of windows of one length; half a window by default"
    )

    _stride_needs_a_window = field_validator("stride")(_check_window)

    @property
    def span(self) -> Span:
        """Which part of each video to recognise, and in which windows."""
        return Span(self.start, self.end, self.window or (), self.stride)


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
    smoothing: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="cost of each segment, in windows of correctly labelled time; more gives fewer, longer segments; "
        f"{SMOOTHING:g} by default",
    )
    min_segment: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description=f"shortest segment in seconds; {MIN_LENGTH:g} of the shortest window by default",
    )
    background: str | None = Field(
        None,
        max_length=MAX_NAME,
        description=f"label that is left out of the segments; `{BACKGROUND}` by default, if the model has it",
    )

    _segments_need_a_window = field_validator("smoothing", "min_segment", "background")(_check_window)

    def merging(self, labels: Sequence[str]) -> Merging | None:
        """How windows become segments; None without windows.

        Args:
            labels: of the model.

        Raises:
            UnknownLabelError: `background` is not one of them.
        """
        if self.window is None:
            return None
        return Merging(
            smoothing=SMOOTHING if self.smoothing is None else self.smoothing,
            min_length=self.min_segment,
            left_out=background_class(labels, self.background),
        )


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
