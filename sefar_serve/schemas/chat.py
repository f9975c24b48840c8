"""The JSON of captions and conversations: OpenAI's chat completions, and our additions to them under `sefar`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from sefar_serve.schemas.model_name import ModelName
from sefar_serve.schemas.problem import ItemError
from sefar_serve.schemas.video import FAMILIARITY, UNFAMILIAR, WINDOW_WARNINGS, ClipInfo, Label

AnswerMode = Literal["auto", "loglik", "letter", "generate"]
"""How to answer a multiple-choice question: ``loglik`` compares the likelihoods of the options, ``letter`` those of
their letters, ``generate`` writes free text; ``auto`` is ``loglik`` if there are options and ``generate`` if not."""


Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""A signed 64-bit integer, the range that language models accept."""


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    return value


NonBlank = Annotated[str, Field(min_length=1), AfterValidator(_not_blank)]
"""A text with more in it than white space."""


class VideoUrl(BaseModel):
    """Where a video is: a data URL, a URL on an allowed host, or ``sefar://CLIP_ID`` of a clip sent earlier."""

    model_config = ConfigDict(extra="forbid")

    url: str
    start: float | None = Field(None, ge=0, description="start of the clip in seconds; null for the first frame")
    end: float | None = Field(None, gt=0, description="end of the clip in seconds; null for the end of the video")


def _as_object(value: object) -> object:
    return {"url": value} if isinstance(value, str) else value


class TextPart(BaseModel):
    """A piece of text."""

    type: Literal["text"]
    text: str


class VideoPart(BaseModel):
    """A clip."""

    type: Literal["video_url"]
    video_url: Annotated[VideoUrl, BeforeValidator(_as_object)]


Part = Annotated[TextPart | VideoPart, Field(discriminator="type")]


def _as_parts(value: object) -> object:
    """A string becomes one text part; OpenAI's clients send an assistant's empty turn as null."""
    if isinstance(value, str):
        return [{"type": "text", "text": value}]
    return [] if value is None else value


class ChatMessage(BaseModel):
    """One turn of a conversation: a text, or a list of text and video parts."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[list[Part], BeforeValidator(_as_parts, json_schema_input_type=str | list[Part])]
    name: str | None = Field(None, description="accepted for compatibility; ignored")


class StreamOptions(BaseModel):
    """Options of a stream."""

    include_usage: bool = False


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else ([] if value is None else value)


class ChatRequest(BaseModel):
    """Body of POST /v1/chat/completions: the fields that this server supports."""

    model_config = ConfigDict(extra="forbid")

    model: ModelName = Field(None, description="name of the captioner; null or `default` for the only one")
    messages: list[ChatMessage] = Field(min_length=1)
    max_tokens: int | None = Field(
        None, ge=1, description="maximum length of the answer in tokens; lowered to the server's limit"
    )
    max_completion_tokens: int | None = Field(None, ge=1, description="OpenAI's newer name for max_tokens")
    temperature: float = Field(0.0, ge=0, le=2, description="0, the default here, always takes the most likely token")
    top_p: float = Field(1.0, gt=0, le=1)
    seed: Seed | None = None
    stop: Annotated[list[str], BeforeValidator(_as_list), Field(max_length=4)] = []
    stream: bool = False
    stream_options: StreamOptions | None = None

    options: list[NonBlank] | None = Field(None, min_length=2, max_length=26, description="the answers to choose from")
    answer_mode: AnswerMode = "auto"
    abstain_below: float | None = Field(
        None,
        ge=0,
        le=1,
        description="withhold a text that contradicts the classifier if η is below this; null for the server's default",
    )

    @property
    def length(self) -> int | None:
        """The maximum length that the request asks for, in tokens, under either name; None if it asks for none."""
        return self.max_completion_tokens or self.max_tokens


class SeenClip(BaseModel):
    """A clip of the conversation, as the classifier sees it."""

    clip_id: str | None = Field(None, description="send sefar://CLIP_ID to ask about the clip without a new upload")
    name: str
    labels: list[Label]
    reliability: float = Field(description="η in (0, 1]")
    familiarity: float | None = Field(None, description=FAMILIARITY)
    unfamiliar: bool = Field(False, description=UNFAMILIAR)
    clip: ClipInfo


class Choice(BaseModel):
    """One option of a multiple-choice question."""

    letter: str
    text: str
    logprob: float = Field(description="natural log-probability of the option as the whole answer")
    tokens: int
    probability: float = Field(description="probability among the options")


class SefarBlock(BaseModel):
    """Our additions to OpenAI's answer."""

    clips: list[SeenClip]
    agreement: Literal["agree", "disagree"] | None = Field(
        None, description="whether the text names the classifier's class; null if it names no class"
    )
    named_label: str | None = None
    notice: str | None = Field(
        None, description="a remark about the answer: a disagreement, a lowered max_tokens, or that it saw no video"
    )
    abstained: bool = False
    options: list[Choice] | None = None


class TokenUsage(BaseModel):
    """Tokens of the language model; a clip's soft tokens count as prompt tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AssistantMessage(BaseModel):
    """The assistant's message."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(BaseModel):
    """The only choice of a completion."""

    index: int = 0
    message: AssistantMessage
    logprobs: None = None
    finish_reason: Literal["stop", "length"]


class ChatCompletion(BaseModel):
    """Response of POST /v1/chat/completions."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: TokenUsage
    sefar: SefarBlock


class WindowCaption(BaseModel):
    """The caption of one sliding window."""

    start: float = Field(description="seconds")
    end: float
    clip_id: str | None = Field(None, description="send sefar://CLIP_ID to ask about this window without a new upload")
    caption: str
    finish_reason: Literal["stop", "length"]
    agreement: Literal["agree", "disagree"] | None
    named_label: str | None
    notice: str | None
    abstained: bool
    labels: list[Label]
    reliability: float
    familiarity: float | None = Field(None, description=FAMILIARITY)
    unfamiliar: bool = Field(False, description=UNFAMILIAR)
    warnings: list[str] = Field(description=WINDOW_WARNINGS)


class Caption(BaseModel):
    """The caption of one clip; with sliding windows, of the most reliable one, and of all in `timeline`.

    Windows in which a model of joints found no person count only if none has one.
    """

    object: Literal["caption"] = "caption"
    index: int
    name: str
    clip_id: str | None = Field(None, description="send sefar://CLIP_ID to ask about the clip without a new upload")
    caption: str
    finish_reason: Literal["stop", "length"]
    agreement: Literal["agree", "disagree"] | None
    named_label: str | None
    notice: str | None
    abstained: bool
    labels: list[Label] = Field(description="the classifier's labels, best first")
    reliability: float = Field(description="η in (0, 1]")
    familiarity: float | None = Field(None, description=FAMILIARITY)
    unfamiliar: bool = Field(False, description=UNFAMILIAR)
    clip: ClipInfo
    timeline: list[WindowCaption] | None = None


class CaptionUsage(TokenUsage):
    """Tokens of the language model, and number of clips."""

    clips: int


class CaptionsResponse(BaseModel):
    """Response of POST /v1/captions: one entry per clip, in order."""

    object: Literal["list"] = "list"
    model: str
    version: str
    data: list[Caption | ItemError]
    usage: CaptionUsage
