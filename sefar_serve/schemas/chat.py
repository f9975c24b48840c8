"""The JSON of captions and conversations: OpenAI's chat completions, and what we add to them under `sefar`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from sefar_serve.schemas.model_name import ModelName
from sefar_serve.schemas.problem import ItemError
from sefar_serve.schemas.video import ClipInfo, Label

AnswerMode = Literal["auto", "loglik", "letter", "generate"]
"""How a multiple-choice question is answered: by the likelihood of the options, of their letters, or in free text;
auto takes the first for a question with options and the last for any other."""


Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""As wide as language models take seeds."""


class VideoUrl(BaseModel):
    """Where a video is: a data URL, a URL of an allowed host, or ``sefar://CLIP_ID`` of a clip already seen."""

    model_config = ConfigDict(extra="forbid")

    url: str
    start: float | None = Field(None, ge=0, description="seconds; the clip begins here")
    end: float | None = Field(None, gt=0, description="seconds; the clip ends here")


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
    """A plain text is one part; OpenAI's clients send an assistant's empty turn as null."""
    if isinstance(value, str):
        return [{"type": "text", "text": value}]
    return [] if value is None else value


class ChatMessage(BaseModel):
    """One turn: a text, or parts of text and video."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[list[Part], BeforeValidator(_as_parts, json_schema_input_type=str | list[Part])]
    name: str | None = Field(None, description="accepted for compatibility, not used")


class StreamOptions(BaseModel):
    """What a stream tells besides."""

    include_usage: bool = False


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else ([] if value is None else value)


class ChatRequest(BaseModel):
    """Body of POST /v1/chat/completions, as far as this server acts on it."""

    model_config = ConfigDict(extra="forbid")

    model: ModelName = Field(None, description="name of the captioner; `default` or left out: the only one there is")
    messages: list[ChatMessage] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1, description="longest answer in tokens; lowered to the server's limit")
    max_completion_tokens: int | None = Field(None, ge=1, description="OpenAI's newer name of max_tokens")
    temperature: float = Field(0.0, ge=0, le=2, description="0, the default here, takes the likeliest token each time")
    top_p: float = Field(1.0, gt=0, le=1)
    seed: Seed | None = None
    stop: Annotated[list[str], BeforeValidator(_as_list), Field(max_length=4)] = []
    stream: bool = False
    stream_options: StreamOptions | None = None

    options: list[Annotated[str, Field(min_length=1)]] | None = Field(
        None, min_length=2, max_length=26, description="choices to decide between"
    )
    answer_mode: AnswerMode = "auto"
    abstain_below: float | None = Field(None, ge=0, le=1, description="replaces the server's own")

    @property
    def length(self) -> int | None:
        """Longest answer that is asked for, in tokens, by whichever name; None if the request does not say."""
        return self.max_completion_tokens or self.max_tokens


class SeenClip(BaseModel):
    """A clip of the conversation, as the classifier sees it."""

    clip_id: str | None = Field(None, description="ask more about it as sefar://CLIP_ID, without sending it again")
    name: str
    labels: list[Label]
    reliability: float = Field(description="η in (0, 1]")
    clip: ClipInfo


class Choice(BaseModel):
    """One option of a multiple-choice question."""

    letter: str
    text: str
    logprob: float = Field(description="natural log-probability of the option as the whole answer")
    tokens: int
    probability: float = Field(description="among the options")


class SefarBlock(BaseModel):
    """What we add to OpenAI's answer."""

    clips: list[SeenClip]
    agreement: Literal["agree", "disagree"] | None = Field(
        None, description="whether the class that the text names is the classifier's; null where it names none"
    )
    named_label: str | None = None
    notice: str | None = Field(
        None, description="what to know of the answer: a disagreement, a lowered max_tokens, that no video was seen"
    )
    abstained: bool = False
    options: list[Choice] | None = None


class TokenUsage(BaseModel):
    """Tokens of the language model; a clip's soft tokens count as prompt."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AssistantMessage(BaseModel):
    """What the assistant says."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(BaseModel):
    """The one answer."""

    index: int = 0
    message: AssistantMessage
    logprobs: None = None
    finish_reason: Literal["stop", "length"]


class ChatCompletion(BaseModel):
    """Answer of POST /v1/chat/completions."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: TokenUsage
    sefar: SefarBlock


class WindowCaption(BaseModel):
    """One sliding window in a sentence."""

    start: float = Field(description="seconds")
    end: float
    clip_id: str | None = Field(None, description="ask more about this window as sefar://CLIP_ID")
    caption: str
    finish_reason: Literal["stop", "length"]
    agreement: Literal["agree", "disagree"] | None
    named_label: str | None
    notice: str | None
    abstained: bool
    labels: list[Label]
    reliability: float


class Caption(BaseModel):
    """One clip in a sentence; with windows, the most reliable one, and all in `timeline`."""

    object: Literal["caption"] = "caption"
    index: int
    name: str
    clip_id: str | None = Field(None, description="ask more about it as sefar://CLIP_ID, without sending it again")
    caption: str
    finish_reason: Literal["stop", "length"]
    agreement: Literal["agree", "disagree"] | None
    named_label: str | None
    notice: str | None
    abstained: bool
    labels: list[Label] = Field(description="what the classifier says, best first")
    reliability: float = Field(description="η in (0, 1]")
    clip: ClipInfo
    timeline: list[WindowCaption] | None = None


class CaptionUsage(TokenUsage):
    """Tokens of the language model, and clips."""

    clips: int


class CaptionsResponse(BaseModel):
    """Answer of POST /v1/captions: one entry per clip, in order."""

    object: Literal["list"] = "list"
    model: str
    version: str
    data: list[Caption | ItemError]
    usage: CaptionUsage
