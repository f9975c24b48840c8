"""POST /v1/chat/completions and /v1/captions: what a language model says of clips."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import ValidationError

from sefar_serve import answers
from sefar_serve.api.captioner import Captioner, required
from sefar_serve.api.completion import Envelope, failure, usage
from sefar_serve.api.conversation import Conversation, read_conversation
from sefar_serve.api.errors import ERRORS, ApiError, problem_of, validation_problem
from sefar_serve.api.gateway import Gateway, gateway_of
from sefar_serve.api.payload import CaptionOptions, body_forms, closed_on_error, read_json, read_request
from sefar_serve.api.work import recognise, while_connected
from sefar_serve.chat_schemas import (
    Caption,
    CaptionsResponse,
    CaptionUsage,
    ChatCompletion,
    ChatRequest,
)
from sefar_serve.generation import GenerationError, GenerationOptions, GeneratorOverloadedError, Message
from sefar_serve.recognition import Recognised
from sefar_serve.replies import Reply, answer, choose, write
from sefar_serve.schemas import ItemError

router = APIRouter(prefix="/v1", tags=["text"])

_SCHEMA = "requestBody/content/application~1json/schema"
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                # The route reads its body itself, bounded and off the event loop, so FastAPI does not know the schema:
                # its parts are referred to where they stand.
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

    `url` may be a data URL, a URL of a host that the operator allows, or `sefar://CLIP_ID` of a clip that was
    seen before. A question with options (`options`, or a text that ends with `A.… B.… C.… D.…`) is answered by their
    likelihood. The field `sefar` of the answer says what the classifier finds, and whether the text agrees.
    """
    gateway = gateway_of(request)
    captioner = required(gateway.captioner)
    fields = await read_json(request, gateway.settings.max_body_bytes)
    try:
        body = ChatRequest(**fields)
    except ValidationError as error:
        told = validation_problem(error.errors())
        raise ApiError(told.status, told.body.code, told.body.message, told.body.param) from error
    captioner.check_name(body.model)
    options = captioner.options(
        body.max_completion_tokens or body.max_tokens, body.temperature, body.top_p, body.seed, tuple(body.stop)
    )
    deadline = asyncio.get_running_loop().time() + gateway.settings.request_timeout
    work = _begin(request, gateway, captioner, body, options)
    conversation, replies, first = await while_connected(request, gateway, work)
    envelope = Envelope(f"chatcmpl-{request.state.request_id}", captioner.generator.info.name, conversation.seen)
    if body.stream:
        with_usage = body.stream_options is not None and body.stream_options.include_usage
        events = _events(gateway, envelope, replies, first, with_usage, deadline)
        return StreamingResponse(events, media_type="text/event-stream", headers={"cache-control": "no-store"})
    async with asyncio.timeout_at(deadline):
        reply = await while_connected(request, gateway, _last(replies, first))
    gateway.metrics.observe_reply(reply)
    return Response(envelope.completion(reply).model_dump_json(), media_type="application/json")


Replies = AsyncGenerator[str | Reply, None]


async def _begin(
    request: Request, gateway: Gateway, captioner: Captioner, body: ChatRequest, options: GenerationOptions
) -> tuple[Conversation, Replies, str | Reply]:
    """Look at the clips and wait for the beginning of the answer, so that what fails does so with a status."""
    conversation = await read_conversation(request, gateway, captioner, body)
    started = time.perf_counter()
    replies = _replies(captioner, conversation, body, options)
    try:
        first = await anext(replies)
    except GeneratorOverloadedError:
        gateway.metrics.rejected.labels("generating").inc()
        raise
    gateway.metrics.first_token_seconds.observe(time.perf_counter() - started)
    return conversation, replies, first


async def _replies(
    captioner: Captioner, conversation: Conversation, body: ChatRequest, options: GenerationOptions
) -> Replies:
    generator, verdict = captioner.generator, conversation.verdict
    abstain_below = captioner.abstain_below(body.abstain_below)
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
        yield reply
        return
    async with aclosing(write(generator, conversation.messages, options, verdict, abstain_below)) as parts:
        async for part in parts:
            yield part


async def _last(replies: Replies, first: str | Reply) -> Reply:
    """The whole reply, the parts of its text passed over."""
    async with aclosing(replies):
        item = first
        while not isinstance(item, Reply):
            item = await anext(replies)
        return item


async def _events(
    gateway: Gateway, envelope: Envelope, replies: Replies, first: str | Reply, with_usage: bool, deadline: float
) -> AsyncIterator[str]:
    """A stream's events; closed when the client hangs up, and the generator with it."""
    async with aclosing(replies):
        try:
            yield envelope.opening()
            item = first
            while not isinstance(item, Reply):
                yield envelope.delta(item)
                async with asyncio.timeout_at(deadline):
                    item = await anext(replies)
            gateway.metrics.observe_reply(item)
            yield envelope.closing(item, with_usage)
        except (GenerationError, TimeoutError) as error:
            gateway.metrics.replies.labels("failed").inc()
            yield failure(error)


@router.post("/captions", responses=ERRORS, openapi_extra=body_forms(CaptionOptions))
async def captions(request: Request, query: Annotated[CaptionOptions, Query()]) -> CaptionsResponse:
    """One sentence for each of one or several videos, sent as to /v1/classify; `prompt` asks for something else."""
    gateway = gateway_of(request)
    captioner = required(gateway.captioner)
    inputs, options = await read_request(request, query, gateway.reading)
    with closed_on_error(inputs):
        captioner.check_name(options.model)
        wanted = captioner.options(options.max_tokens, options.temperature, seed=options.seed)
        encoder = captioner.encoder()
    meta = encoder.metadata
    # One request must not fill the generator's queue alone and have itself refused.
    places = asyncio.Semaphore(gateway.settings.generation_batch)

    async def caption(index: int, found: Recognised | Exception) -> Caption | ItemError | Exception:
        if isinstance(found, Exception):
            return found
        clip = gateway.clips.put(found.name, found.windows[0], meta)
        messages = [Message("user", (clip.features, options.prompt))]
        threshold = captioner.abstain_below(options.abstain_below)
        try:
            async with places:
                reply = await answer(captioner.generator, messages, wanted, clip.verdict, threshold)
        except GenerationError as error:
            return error
        gateway.metrics.observe_reply(reply)
        spent.append(reply)
        return answers.caption(
            clip.window, meta, reply, index=index, name=clip.name, clip_id=clip.clip_id, top_k=options.top_k
        )

    async def all_of_them() -> list[Caption | ItemError | Exception]:
        found = await recognise(request, gateway, inputs, options.span, encoder)
        return await asyncio.gather(*(caption(index, result) for index, result in enumerate(found)))

    spent: list[Reply] = []
    entries = await while_connected(request, gateway, all_of_them())
    if len(entries) == 1 and isinstance(entries[0], Exception):
        raise entries[0]
    totals = [usage(reply) for reply in spent]
    return CaptionsResponse(
        model=captioner.generator.info.name,
        version=meta.version,
        data=[
            ItemError(index=i, name=inputs[i].name, error=problem_of(entry).body)
            if isinstance(entry, Exception)
            else entry
            for i, entry in enumerate(entries)
        ],
        usage=CaptionUsage(
            prompt_tokens=sum(total.prompt_tokens for total in totals),
            completion_tokens=sum(total.completion_tokens for total in totals),
            total_tokens=sum(total.total_tokens for total in totals),
            clips=len(totals),
        ),
    )
