"""Reads a conversation: its clips, the classifier's verdict on them, and the messages for the generator."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import Request

from sefar_serve.api.captioner import Captioner
from sefar_serve.api.errors import ApiError
from sefar_serve.api.gateway import Gateway
from sefar_serve.api.payload import video_at
from sefar_serve.api.store import StoredClip
from sefar_serve.api.work import recognise
from sefar_serve.engine import Model
from sefar_serve.errors import SefarError
from sefar_serve.language import ClipFeatures, Message
from sefar_serve.language.choices import join_choices, split_choices
from sefar_serve.language.questions import check_question
from sefar_serve.language.replies import Verdict
from sefar_serve.recognition import ClipInput, Recognised, Span
from sefar_serve.schemas import render
from sefar_serve.schemas.chat import AnswerMode, ChatMessage, ChatRequest, SeenClip, TextPart, VideoPart, VideoUrl

STORED = "sefar://"
"""URL prefix of a clip that this server processed before."""


class MissingVideoError(SefarError):
    """The conversation has no video, and the operator does not allow chats without one."""

    status = 400
    code = "missing_video"
    param = "messages"


@dataclass(frozen=True)
class Conversation:
    """A conversation, ready for the generator.

    Attributes:
        messages: messages for the generator.
        clips: the clips, in the order of the messages.
        choices: options to choose from; empty for an answer in free text.
        letters: compare the likelihood of the options' letters instead of their texts.
    """

    messages: tuple[Message, ...]
    clips: tuple[StoredClip, ...]
    choices: tuple[str, ...] = ()
    letters: bool = False

    @property
    def verdict(self) -> Verdict | None:
        """The classifier's verdict on the last clip."""
        return self.clips[-1].verdict if self.clips else None

    @property
    def seen(self) -> list[SeenClip]:
        """The clips as they appear in the answer."""
        return [
            render.seen_clip(clip.window, clip.metadata, name=clip.name, clip_id=clip.clip_id) for clip in self.clips
        ]


async def read_conversation(
    request: Request, gateway: Gateway, captioner: Captioner, body: ChatRequest
) -> Conversation:
    """Process the clips of a conversation and convert its messages.

    Raises:
        ApiError, ClipError, EngineError, PromptError: a clip cannot be read or processed, or the messages are invalid.
    """
    texts = [part.text for message in body.messages for part in message.content if isinstance(part, TextPart)]
    captioner.check_length([*texts, *(body.options or ())])
    choices, letters = _choices(body)
    videos = [part.video_url for message in body.messages for part in message.content if isinstance(part, VideoPart)]
    if not videos and not gateway.settings.text_only_chat:
        raise MissingVideoError(
            "no message has a video; send one as a content part of type video_url, or ask the operator to allow "
            "questions without a video (SEFAR_TEXT_ONLY_CHAT=true)"
        )
    if len(videos) > gateway.settings.max_clips:
        message = (
            f"the request has {len(videos)} clips; at most {gateway.settings.max_clips} are allowed, so send fewer"
        )
        raise ApiError(413, "too_many_clips", message, "messages")
    encoder = captioner.encoder()
    # Check every clip before decoding any, so that one unusable clip does not waste work on the others.
    wanted = [_wanted(gateway, captioner, video, f"video {index}") for index, video in enumerate(videos)]
    clips = await _processed(request, gateway, encoder, wanted)
    left = iter(clips)

    def content(message: ChatMessage) -> tuple[str | ClipFeatures, ...]:
        return tuple(part.text if isinstance(part, TextPart) else next(left).features for part in message.content)

    messages = [
        Message("system" if message.role == "developer" else message.role, content(message))
        for message in body.messages
    ]
    if body.options is not None and not _listed(body.messages[-1]):
        messages[-1] = _with_options(messages[-1], body.options)
    return Conversation(tuple(messages), tuple(clips), choices, letters)


def _choices(body: ChatRequest) -> tuple[tuple[str, ...], bool]:
    """The options to choose from, and whether to compare their letters; no options for an answer in free text."""
    last = body.messages[-1]
    if last.role != "user":
        raise ApiError(400, "invalid_parameter", "messages: the last message must have role user", "messages")
    check_question([*(part.text for part in last.content if isinstance(part, TextPart)), *(body.options or ())])
    mode: AnswerMode = body.answer_mode
    asked = _listed(last)
    given = tuple(body.options) if body.options is not None else asked
    if not given and mode in ("loglik", "letter"):
        message = f"answer_mode {mode} needs options; pass `options`, or end the question with A.… B.… C.… D.…"
        raise ApiError(400, "invalid_parameter", message, "options")
    return (() if mode == "generate" else given), mode == "letter"


def _listed(message: ChatMessage) -> tuple[str, ...]:
    """The options at the end of the question's own text."""
    texts = [part.text for part in message.content if isinstance(part, TextPart)]
    split = split_choices(texts[-1]) if texts else None
    return () if split is None else split[1]


def _with_options(message: Message, choices: Sequence[str]) -> Message:
    """The question followed by its options, in the format of the paper's authors."""
    content = list(message.content)
    last = max((i for i, part in enumerate(content) if isinstance(part, str)), default=None)
    if last is None:
        return Message(message.role, (*content, join_choices("", tuple(choices)).strip()))
    content[last] = join_choices(str(content[last]), tuple(choices))
    return Message(message.role, tuple(content))


def _wanted(gateway: Gateway, captioner: Captioner, video: VideoUrl, name: str) -> StoredClip | tuple[ClipInput, Span]:
    """A stored clip, or the video to process and the part of it to use."""
    if not video.url.startswith(STORED):
        return video_at(video.url, name, gateway.reading.fetcher), Span(video.start, video.end)
    if video.start is not None or video.end is not None:
        message = f"{name}: start and end cannot be used with a stored clip; send the video to use another part of it"
        raise ApiError(400, "invalid_parameter", message, "messages")
    held = gateway.clips.get(video.url.removeprefix(STORED))
    captioner.check_clip(held)
    return held


async def _processed(
    request: Request, gateway: Gateway, encoder: Model, wanted: Sequence[StoredClip | tuple[ClipInput, Span]]
) -> list[StoredClip]:
    """Process the new videos; return all clips in order.

    Raises:
        Exception: the error of the first clip that failed, after the others have finished.
    """
    new = [item for item in wanted if not isinstance(item, StoredClip)]
    found = await asyncio.gather(
        *(recognise(request, gateway, [item], span, encoder) for item, span in new), return_exceptions=True
    )
    seen = iter(found)

    def clip(item: StoredClip | tuple[ClipInput, Span]) -> StoredClip:
        if isinstance(item, StoredClip):
            return item
        answer = next(seen)
        result = answer if isinstance(answer, BaseException) else answer[0]
        if not isinstance(result, Recognised):
            raise result
        return gateway.clips.put(result.name, result.windows[0], encoder.metadata)

    return [clip(item) for item in wanted]
