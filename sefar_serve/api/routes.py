"""The routes under /v1: classify, embeddings, models."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request

from sefar_serve import answers, engine
from sefar_serve.api.errors import ApiError, problem_of
from sefar_serve.api.gateway import Gateway, gateway_of
from sefar_serve.api.payload import ClassifyOptions, ClipOptions, EmbedOptions, closed_on_error, read_request
from sefar_serve.engine import EngineOverloadedError
from sefar_serve.metadata import ModelMetadata
from sefar_serve.recognition import ClipInput, Recognised
from sefar_serve.schemas import (
    Classification,
    ClassifyResponse,
    Embedding,
    EmbeddingsResponse,
    ErrorResponse,
    ItemError,
    Model,
    ModelList,
)

router = APIRouter(prefix="/v1")

T = TypeVar("T")

_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse, "description": text}
    for status, text in {
        400: "malformed request",
        401: "no valid API key",
        404: "no such model",
        413: "too large or too long",
        415: "not a video",
        422: "a video that is empty or cannot be decoded",
        429: "overloaded; see Retry-After",
        503: "the engine is not available; see Retry-After",
        504: "the request took too long",
    }.items()
}


def _body(options: type[ClipOptions]) -> dict[str, Any]:
    """OpenAPI's description of a body that the route reads itself, in its three forms."""
    fields = options.model_json_schema()["properties"]
    url = {"type": "string", "description": "data:video/mp4;base64,…"}
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["file"],
                        "properties": {
                            "file": {"type": "array", "items": {"type": "string", "format": "binary"}},
                            **fields,
                        },
                    }
                },
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["input"],
                        "properties": {"input": {"anyOf": [url, {"type": "array", "items": url}]}, **fields},
                    }
                },
                "video/*": {"schema": {"type": "string", "format": "binary"}},
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            },
        }
    }


@router.post("/classify", responses=_ERRORS, openapi_extra=_body(ClassifyOptions), tags=["video"])
async def classify(request: Request, query: Annotated[ClassifyOptions, Query()]) -> ClassifyResponse:
    """Fine-grained labels of one or several videos.

    Send videos as multipart fields named `file`, as a raw body, or as JSON
    `{"input": "data:video/mp4;base64,…"}`. Several videos are answered in order, and one that fails
    does not fail the others. `window` and `stride` (seconds) give a timeline over a long video.
    """
    gateway = gateway_of(request)
    inputs, options, model = await _read(request, gateway, query)
    found = await _recognise(request, gateway, inputs, options, model)
    meta = model.metadata

    def answer(index: int, result: Recognised) -> Classification:
        return answers.classification(
            result,
            meta,
            index=index,
            top_k=options.top_k,
            attributes=options.attributes,
            raw_scores=options.raw_scores,
        )

    return ClassifyResponse(
        model=meta.name,
        version=_version(found, meta),
        data=_entries(inputs, found, answer),
        usage=answers.usage(found, meta),
    )


@router.post("/embeddings", responses=_ERRORS, openapi_extra=_body(EmbedOptions), tags=["video"])
async def embeddings(request: Request, query: Annotated[EmbedOptions, Query()]) -> EmbeddingsResponse:
    """Embedding and element tokens of one or several videos, sent as to /v1/classify."""
    gateway = gateway_of(request)
    inputs, options, model = await _read(request, gateway, query)
    meta = model.metadata
    with closed_on_error(inputs):
        if options.dimensions not in (None, meta.embedding_dim):
            message = f"dimensions: embeddings of this model have {meta.embedding_dim} and cannot be shortened"
            raise ApiError(400, "invalid_parameter", message, "dimensions")
    found = await _recognise(request, gateway, inputs, options, model)
    as_base64 = options.encoding_format == "base64"

    def answer(index: int, result: Recognised) -> Embedding:
        return answers.embedding(result, meta, index=index, include=options.include, as_base64=as_base64)

    return EmbeddingsResponse(
        model=meta.name,
        version=_version(found, meta),
        data=_entries(inputs, found, answer),
        usage=answers.usage(found, meta),
    )


@router.get("/models", tags=["models"])
async def models(request: Request) -> ModelList:
    """The models that can be asked for."""
    return ModelList(data=[_listed(model.metadata) for model in gateway_of(request).recognizer.engine.models])


def _listed(meta: ModelMetadata) -> Model:
    return Model(
        id=meta.name,
        version=meta.version,
        dataset=meta.dataset,
        sample_frames=list(meta.sample_frames),
        layout=meta.layout,
        size=meta.size,
        embedding_dim=meta.embedding_dim,
        token_dim=meta.token_dim,
        labels=list(meta.labels),
    )


Options = TypeVar("Options", bound=ClipOptions)


async def _read(request: Request, gateway: Gateway, query: Options) -> tuple[list[ClipInput], Options, engine.Model]:
    settings = gateway.settings
    inputs, options = await read_request(
        request, query, max_bytes=settings.max_body_bytes, max_clips=settings.max_clips
    )
    with closed_on_error(inputs):
        return inputs, options, gateway.recognizer.engine.model(options.model)


async def _recognise(
    request: Request,
    gateway: Gateway,
    inputs: list[ClipInput],
    options: ClipOptions,
    model: engine.Model,
) -> list[Recognised | Exception]:
    work = gateway.recognizer.recognise(inputs, model, options.span)
    try:
        async with asyncio.timeout(gateway.settings.request_timeout):
            results = await _until_disconnect(request, work)
    except EngineOverloadedError:
        gateway.metrics.rejected.labels("decoding").inc()
        raise
    gateway.metrics.observe(results)
    request.state.timings.take(results)
    if len(results) == 1 and isinstance(results[0], Exception):
        raise results[0]
    return results


async def _until_disconnect(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Wait for the work, or drop it when the client hangs up, so that it stops costing."""
    task = asyncio.ensure_future(work)
    hang_up = asyncio.ensure_future(_hang_up(request))
    try:
        await asyncio.wait((task, hang_up), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ApiError(499, "client_disconnected", "the client closed the connection before the answer")
    finally:
        for pending in (task, hang_up):
            pending.cancel()


async def _hang_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _version(found: list[Recognised | Exception], meta: ModelMetadata) -> str:
    """The version that answered: a server may have changed it since the model was looked up."""
    answered = (result.windows[0].prediction.version for result in found if isinstance(result, Recognised))
    return next(answered, meta.version)


Entry = TypeVar("Entry", Classification, Embedding)


def _entries(
    inputs: list[ClipInput], found: list[Recognised | Exception], answer: Callable[[int, Recognised], Entry]
) -> list[Entry | ItemError]:
    """One entry per video, in order: its answer, or what went wrong with it."""
    return [
        answer(index, result)
        if isinstance(result, Recognised)
        else ItemError(index=index, name=inputs[index].name, error=problem_of(result).body)
        for index, result in enumerate(found)
    ]
