"""Reading a conversation: its clips, what the classifier says of them, and the messages for the generator."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import Request

from sefar_serve import answers
from sefar_serve.api.captioner import Captioner
from sefar_serve.api.errors import ApiError
from sefar_serve.api.gateway import Gateway
from sefar_serve.api.payload import video_at
from sefar_serve.api.store import StoredClip
from sefar_serve.api.work import recognise
from sefar_serve.chat_schemas import AnswerMode, ChatMessage, ChatRequest, SeenClip, TextPart, VideoPart, VideoUrl
from sefar_serve.choices import LETTERS, join_choices, split_choices
from sefar_serve.engine import Model
from sefar_serve.generation import ClipFeatures, Message
from sefar_serve.recognition import Recognised, Span
from sefar_serve.replies import Verdict

STORED = "sefar://"
"""Beginning of the URL of a clip that was seen before."""


@dataclass(frozen=True)
class Conversation:
    """What the generator is to answer.

    Attributes:
        messages: for the generator.
        clips: in order of reading.
        choices: options to decide between; empty for a free answer.
        letters: judge the letters of the choices instead of their texts.
    """

    messages: tuple[Message, ...]
    clips: tuple[StoredClip, ...]
    choices: tuple[str, ...] = ()
    letters: bool = False

    @property
    def verdict(self) -> Verdict | None:
        """What the classifier says of the clip that was shown last."""
        return self.clips[-1].verdict if self.clips else None

    @property
    def seen(self) -> list[SeenClip]:
        """The clips as the user is told of them."""
        return [
            answers.seen_clip(clip.window, clip.metadata, name=clip.name, clip_id=clip.clip_id) for clip in self.clips
        ]


async def read_conversation(
    request: Request, gateway: Gateway, captioner: Captioner, body: ChatRequest
) -> Conversation:
    """Look at the clips of a conversation and write its messages down.

    Raises:
        ApiError, ClipError, EngineError: a clip cannot be had, or the messages make no sense.
    """
    choices, letters = _choices(body)
    urls = [part.video_url for message in body.messages for part in message.content if isinstance(part, VideoPart)]
    if len(urls) > gateway.settings.max_clips:
        message = f"{len(urls)} clips in one request, at most {gateway.settings.max_clips} are allowed"
        raise ApiError(413, "too_many_clips", message, "messages")
    encoder = captioner.encoder()
    looks = [_look(request, gateway, encoder, url, f"video {i}") for i, url in enumerate(urls)]
    clips = await asyncio.gather(*looks)
    left = iter(clips)

    def content(message: ChatMessage) -> tuple[str | ClipFeatures, ...]:
        return tuple(part.text if isinstance(part, TextPart) else next(left).features for part in message.content)

    messages = [
        Message("system" if message.role == "developer" else message.role, content(message))
        for message in body.messages
    ]
    if body.options is not None:
        messages[-1] = _with_options(messages[-1], choices)
    return Conversation(tuple(messages), tuple(clips), choices, letters)


def _choices(body: ChatRequest) -> tuple[tuple[str, ...], bool]:
    """The options to judge, and whether by their letters; none for an answer in free text."""
    last = body.messages[-1]
    if last.role != "user":
        raise ApiError(400, "invalid_parameter", "messages: the last message must be the user's", "messages")
    mode: AnswerMode = body.answer_mode
    texts = [part.text for part in last.content if isinstance(part, TextPart)]
    asked = split_choices(texts[-1]) if texts else None
    given = tuple(body.options) if body.options is not None else (asked[1] if asked is not None else ())
    if not given and mode in ("loglik", "letter"):
        message = f"answer_mode {mode} needs options: give them as `options`, or end the question with A.… B.… C.… D.…"
        raise ApiError(400, "invalid_parameter", message, "options")
    return (() if mode == "generate" else given), mode == "letter"


def _with_options(message: Message, choices: Sequence[str]) -> Message:
    """The question with its options, as the authors write them."""
    texts = [i for i, part in enumerate(message.content) if isinstance(part, str)]
    if not choices or not texts:
        return message
    content = list(message.content)
    content[texts[-1]] = join_choices(str(content[texts[-1]]), tuple(choices[: len(LETTERS)]))
    return Message(message.role, tuple(content))


async def _look(request: Request, gateway: Gateway, encoder: Model, video: VideoUrl, name: str) -> StoredClip:
    """A clip's features: those held from before, or found now."""
    if video.url.startswith(STORED):
        if video.start is not None or video.end is not None:
            message = f"{name}: a clip that was seen before cannot be cut again; send the video for another part of it"
            raise ApiError(400, "invalid_parameter", message, "messages")
        return gateway.clips.get(video.url.removeprefix(STORED))
    item = video_at(video.url, name, gateway.reading.fetcher)
    [found] = await recognise(request, gateway, [item], Span(video.start, video.end), encoder)
    if not isinstance(found, Recognised):
        raise found
    return gateway.clips.put(name, found.windows[0], encoder.metadata)
