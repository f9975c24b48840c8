"""POST /v1/chat/completions: conversations about videos, in OpenAI's format."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from sefar_serve.api.captioner import Captioner, required
from sefar_serve.api.conversation import Conversation, read_conversation
from sefar_serve.api.errors import ERRORS
from sefar_serve.api.gateway import Gateway, gateway_of
from sefar_serve.api.notices import NO_VIDEO, noted
from sefar_serve.api.openai_parameters import supported_parameters
from sefar_serve.api.payload import read_json, validated
from sefar_serve.api.stream import EventStream
from sefar_serve.api.work import counted, while_connected, wrote
from sefar_serve.language import GenerationError, GenerationOptions
from sefar_serve.language.completion import Envelope, failure
from sefar_serve.language.replies import Reply, choose, write
from sefar_serve.schemas.chat import (
    ChatCompletion,
    ChatRequest,
)

router = APIRouter(prefix="/v1", tags=["text"])

_SCHEMA = "requestBody/content/application~1json/schema"
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                # The route reads the body itself, to limit its size and parse it off the event loop. FastAPI therefore
                # does not know the schema, and references point into this document.
                "schema": ChatRequest.model_json_schema(
                    ref_template=f"#/paths/~1v1~1chat~1completions/post/{_SCHEMA}/$defs/{{model}}"
                )
            }
        },
    }
}


@router.post("/chat/completions", responses=ERRORS, openapi_extra=_BODY, response_model=ChatCompletion)
async def chat(request: Request) -> Response:
    """Captions and answers in OpenAI's format; videos are content parts of type `video_url`.

    `url` may be a data URL, a URL of a host that the operator allows, or `sefar://CLIP_ID` for a clip that this
    server processed before. If a question has options (`options`, or a text that ends with `A.… B.… C.… D.…`), the most
    likely one is the answer. The field `sefar` has the classifier's labels and says whether the text agrees with them.
    """
    gateway = gateway_of(request)
    captioner = required(gateway.captioner)
    fields = await read_json(request, gateway.reading.json, example='{"messages": […]}')
    body = await run_in_threadpool(validated, ChatRequest, supported_parameters(fields))
    captioner.check_name(body.model)
    options = captioner.options(
        body.length,
        body.temperature,
        body.top_p,
        body.seed,
        tuple(filter(None, body.stop)),
    )
    deadline = asyncio.get_running_loop().time() + gateway.settings.request_timeout
    work = _begin(request, gateway, captioner, body, options)
    conversation, replies, first, started = await while_connected(request, gateway, work)
    envelope = Envelope(f"chatcmpl-{request.state.request_id}", captioner.generator.info.name, conversation.seen)
    if body.stream:
        with_usage = body.stream_options is not None and body.stream_options.include_usage

        def ended(reply: Reply) -> None:
            wrote(request, gateway, reply, started)

        return EventStream(_events(gateway, envelope, replies, first, with_usage, deadline, ended), replies, deadline)
    async with asyncio.timeout_at(deadline):
        reply = await while_connected(request, gateway, _last(replies, first))
    wrote(request, gateway, reply, started)
    return Response(envelope.completion(reply).model_dump_json(), media_type="application/json")


Replies = AsyncGenerator[str | Reply, None]


async def _begin(
    request: Request, gateway: Gateway, captioner: Captioner, body: ChatRequest, options: GenerationOptions
) -> tuple[Conversation, Replies, str | Reply, float]:
    """Process the clips and wait for the first part of the answer, so that a failure still gets an HTTP status."""
    with counted(gateway):
        captioner.admit()
        conversation = await read_conversation(request, gateway, captioner, body)
        started, began = time.perf_counter(), time.time()
        replies = _replies(captioner, conversation, body, options)
        first = await anext(replies)
    gateway.metrics.first_token_seconds.observe(time.perf_counter() - started)
    return conversation, replies, first, began


async def _replies(
    captioner: Captioner, conversation: Conversation, body: ChatRequest, options: GenerationOptions
) -> Replies:
    generator, verdict = captioner.generator, conversation.verdict
    abstain_below = captioner.abstain_below(body.abstain_below)
    unseen = None if conversation.clips else NO_VIDEO
    if conversation.choices:
        reply = await choose(
            generator,
            conversation.messages,
            conversation.choices,
            verdict,
            abstain_below,
            letters=conversation.letters,
        )
        yield reply.text
        yield noted(reply, unseen)
        return
    async with aclosing(write(generator, conversation.messages, options, verdict, abstain_below)) as parts:
        async for part in parts:
            yield noted(captioner.noted_length(part, body.length), unseen) if isinstance(part, Reply) else part


async def _last(replies: Replies, first: str | Reply) -> Reply:
    """The complete reply; the parts of its text are skipped."""
    async with aclosing(replies):
        item = first
        while not isinstance(item, Reply):
            item = await anext(replies)
        return item


async def _events(
    gateway: Gateway,
    envelope: Envelope,
    replies: Replies,
    first: str | Reply,
    with_usage: bool,
    deadline: float,
    ended: Callable[[Reply], None],
) -> AsyncGenerator[str, None]:
    """The events of a stream."""
    try:
        yield envelope.opening()
        item = first
        while not isinstance(item, Reply):
            yield envelope.delta(item)
            async with asyncio.timeout_at(deadline):
                item = await anext(replies)
        ended(item)
        yield envelope.closing(item, with_usage)
    except (GenerationError, TimeoutError) as error:
        gateway.metrics.replies.labels("failed").inc()
        yield failure(error)
