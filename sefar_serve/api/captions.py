"""POST /v1/captions: a caption for each video, or for each window of a long video."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from sefar_serve.api.answers import Entry, answered
from sefar_serve.api.captioner import Captioner, required
from sefar_serve.api.errors import ERRORS
from sefar_serve.api.gateway import Gateway, gateway_of
from sefar_serve.api.payload import body_forms, closed_on_error, read_request
from sefar_serve.api.store import StoredClip
from sefar_serve.api.work import counted, recognise, while_connected, wrote
from sefar_serve.language import GenerationError, GenerationOptions, Message
from sefar_serve.language.captions import Captioned, render_caption
from sefar_serve.language.completion import total_usage
from sefar_serve.language.replies import Reply, answer
from sefar_serve.metadata import ModelMetadata
from sefar_serve.options import CaptionOptions
from sefar_serve.recognition import ClipInput, Recognised
from sefar_serve.schemas.chat import CaptionsResponse, CaptionUsage
from sefar_serve.schemas.problem import ItemError, problem_of

router = APIRouter(prefix="/v1", tags=["text"])

Rendering = Callable[[], Entry]
"""Makes an entry of the answer; called where answers are made."""


@router.post("/captions", responses=ERRORS, openapi_extra=body_forms(CaptionOptions), response_model=CaptionsResponse)
async def captions(request: Request, query: Annotated[CaptionOptions, Query()]) -> Response:
    """A one-sentence caption for each video. Send videos as to /v1/classify; `prompt` replaces the default question.

    `window` and `stride` (seconds) give a caption for each window of a long video.
    """
    gateway = gateway_of(request)
    captioner = required(gateway.captioner)
    inputs, options = await read_request(request, query, gateway.reading)
    with closed_on_error(inputs), counted(gateway):
        captioner.check_name(options.model)
        wanted = captioner.options(options.max_tokens, options.temperature, seed=options.seed)
        encoder = captioner.encoder()
        captioner.check_length([options.prompt])
        captioner.admit()
    writer = _Writer(request, gateway, captioner, encoder.metadata, options, wanted)

    async def written() -> list[Rendering | Exception]:
        found = await recognise(request, gateway, inputs, options.span, encoder)
        return await asyncio.gather(*(writer.caption(index, result) for index, result in enumerate(found)))

    entries = await while_connected(request, gateway, written())
    if len(entries) == 1 and isinstance(entries[0], Exception):
        raise entries[0]
    envelope = CaptionsResponse(
        model=captioner.generator.info.name, version=encoder.metadata.version, data=[], usage=writer.usage
    )
    rendered = (
        entry() if callable(entry) else Entry(_failed(index, inputs[index], entry))
        for index, entry in enumerate(entries)
    )
    return await answered(envelope, rendered, windows=writer.windows, most=gateway.settings.max_answer_bytes)


@dataclass
class _Writer:
    """Writes the captions of one request.

    Attributes:
        meta: metadata of the encoder.
        asked: options of the request.
        options: options for the generator.
        replies: the replies written so far.
        windows: number of windows captioned so far.
    """

    request: Request
    gateway: Gateway
    captioner: Captioner
    meta: ModelMetadata
    asked: CaptionOptions
    options: GenerationOptions
    replies: list[Reply] = field(default_factory=list)
    windows: int = 0

    def __post_init__(self) -> None:
        # Without this limit, one request could fill the generator's queue and be refused because of it.
        self._slots = asyncio.Semaphore(self.gateway.settings.generation_batch)

    async def caption(self, index: int, found: Recognised | Exception) -> Rendering | Exception:
        """What makes the entry of one video, or the error that it failed with."""
        if isinstance(found, Exception):
            return found
        clips = [self.gateway.clips.put(found.name, window, self.meta) for window in found.windows]
        tasks = [asyncio.create_task(self._reply(clip)) for clip in clips]
        try:
            replies = await asyncio.gather(*tasks)
        except GenerationError as error:
            return error
        finally:
            for task in tasks:
                task.cancel()
        captioned = [Captioned(clip.window, reply, clip.clip_id) for clip, reply in zip(clips, replies, strict=True)]
        self.windows += len(captioned)

        def entry() -> Entry:
            caption = render_caption(captioned, self.meta, index=index, name=found.name, top_k=self.asked.top_k)
            return Entry(caption, caption.timeline)

        return entry

    async def _reply(self, clip: StoredClip) -> Reply:
        messages = [Message("user", (clip.features, self.asked.prompt))]
        threshold = self.captioner.abstain_below(self.asked.abstain_below)
        async with self._slots:
            started = time.time()
            reply = await answer(self.captioner.generator, messages, self.options, clip.verdict, threshold)
        reply = self.captioner.noted_length(reply, self.asked.max_tokens)
        wrote(self.request, self.gateway, reply, started)
        self.replies.append(reply)
        return reply

    @property
    def usage(self) -> CaptionUsage:
        """Tokens used for all replies."""
        return total_usage(self.replies)


def _failed(index: int, item: ClipInput, error: Exception) -> ItemError:
    return ItemError(index=index, name=item.name, error=problem_of(error).body)
