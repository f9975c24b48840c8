"""The routes under /v1: classify, embeddings, models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel

from sefar_serve import engine
from sefar_serve.api.answers import Entry, answered
from sefar_serve.api.captioner import Captioner
from sefar_serve.api.errors import ERRORS, ApiError
from sefar_serve.api.gateway import Gateway, gateway_of
from sefar_serve.api.payload import body_forms, closed_on_error, read_request
from sefar_serve.api.work import recognise, remember, while_connected
from sefar_serve.language import AdapterMismatchError
from sefar_serve.metadata import ModelMetadata
from sefar_serve.options import ClassifyOptions, ClipOptions, EmbedOptions, PoseOptions
from sefar_serve.pose import check_sees_joints
from sefar_serve.recognition import ClipInput, Recognised, Span, Window
from sefar_serve.schemas import render
from sefar_serve.schemas.model_name import default_as_none
from sefar_serve.schemas.problem import ItemError, problem_of
from sefar_serve.schemas.video import (
    ClassifyResponse,
    EmbeddingsResponse,
    LanguageModel,
    Model,
    ModelList,
)

router = APIRouter(prefix="/v1")


@router.post(
    "/classify",
    responses=ERRORS,
    openapi_extra=body_forms(ClassifyOptions),
    response_model=ClassifyResponse,
    tags=["video"],
)
async def classify(request: Request, query: Annotated[ClassifyOptions, Query()]) -> Response:
    """Fine-grained labels for one or more videos.

    Send videos as multipart fields named `file`, as a raw body, or as JSON
    `{"input": "data:video/mp4;base64,…"}`. Results are in the order of the videos, and a video that fails
    does not affect the others. `window` and `stride` (seconds) give a timeline over a long video, and its
    `segments`: the windows merged to stretches with one label.
    """
    gateway = gateway_of(request)
    inputs, options, model = await _read(request, gateway, query)
    meta = model.metadata
    _check_poses(inputs, options, meta)
    with closed_on_error(inputs):
        merging = options.merging(meta.labels)
    found = await _recognise(request, gateway, inputs, options.span, model)

    def entry(index: int, result: Recognised, clip_id: str | None) -> Entry:
        options_of_labels: dict[str, Any] = {
            "top_k": options.top_k,
            "attributes": options.attributes,
            "raw_scores": options.raw_scores,
            "poses": options.poses,
        }
        head = render.classification(
            result, meta, index=index, clip_id=clip_id, merging=merging, with_timeline=False, **options_of_labels
        )
        return _entry(head, result, lambda window: render.window_labels(window, meta, **options_of_labels))

    envelope = ClassifyResponse(
        model=meta.name, version=_version(found, meta), data=[], usage=render.usage(found, meta)
    )
    return await _answer(gateway, envelope, inputs, found, meta, entry)


@router.post(
    "/embeddings",
    responses=ERRORS,
    openapi_extra=body_forms(EmbedOptions),
    response_model=EmbeddingsResponse,
    tags=["video"],
)
async def embeddings(request: Request, query: Annotated[EmbedOptions, Query()]) -> Response:
    """Embeddings and element tokens for one or more videos, sent as to /v1/classify."""
    gateway = gateway_of(request)
    inputs, options, model = await _read(request, gateway, query)
    meta = model.metadata
    with closed_on_error(inputs):
        if options.dimensions not in (None, meta.embedding_dim):
            message = f"dimensions: must be {meta.embedding_dim}, the size of this model's embeddings, or be left out"
            raise ApiError(400, "invalid_parameter", message, "dimensions")
    _check_poses(inputs, options, meta)
    found = await _recognise(request, gateway, inputs, options.span, model)
    as_base64 = options.encoding_format == "base64"

    def entry(index: int, result: Recognised, clip_id: str | None) -> Entry:
        options_of_vectors: dict[str, Any] = {
            "include": options.include,
            "as_base64": as_base64,
            "poses": options.poses,
        }
        head = render.embedding(result, meta, index=index, clip_id=clip_id, with_timeline=False, **options_of_vectors)
        return _entry(head, result, lambda window: render.window_embedding(window, **options_of_vectors))

    envelope = EmbeddingsResponse(
        model=meta.name, version=_version(found, meta), data=[], usage=render.usage(found, meta)
    )
    return await _answer(gateway, envelope, inputs, found, meta, entry)


@router.get("/models", tags=["models"])
@router.head("/models", include_in_schema=False)
@router.head("/models/", include_in_schema=False)
@router.get("/models/", include_in_schema=False)  # otherwise the next route would match with an empty name
async def models(request: Request) -> ModelList:
    """List the models, including the language model."""
    gateway = gateway_of(request)
    listed: list[Model | LanguageModel] = [_listed(model.metadata) for model in gateway.recognizer.engine.models]
    if gateway.captioner is not None:
        listed.append(_language_model(gateway.captioner))
    return ModelList(data=listed)


# A path parameter, because names may contain slashes.
@router.get("/models/{name:path}", responses={404: ERRORS[404]}, tags=["models"])
@router.head("/models/{name:path}", include_in_schema=False)
async def model(
    request: Request,
    name: Annotated[str, Path(description="name, or name:version; `default` for the default model")],
) -> Model | LanguageModel:
    """Get one model by its name."""
    gateway = gateway_of(request)
    captioner = gateway.captioner
    if captioner is not None and name == captioner.generator.info.name:
        return _language_model(captioner)
    try:
        return _listed(gateway.recognizer.engine.model(default_as_none(name)).metadata)
    except engine.ModelNotFoundError as error:
        if captioner is None:
            raise
        raise engine.ModelNotFoundError(f"{error}; the captioner is {captioner.generator.info.name}") from error


def _language_model(captioner: Captioner) -> LanguageModel:
    try:
        encoder = captioner.encoder().metadata.name
    except (AdapterMismatchError, engine.EngineError):
        encoder = None
    info = captioner.generator.info
    return LanguageModel(
        id=info.name,
        encoder=encoder,
        language_model=info.language_model,
        backend=info.backend,
        context_length=info.context_length,
    )


def _listed(meta: ModelMetadata) -> Model:
    return Model(
        id=meta.name,
        version=meta.version,
        dataset=meta.dataset,
        sample_frames=list(meta.sample_frames),
        layout=meta.layout,
        stream=meta.stream,
        size=meta.size,
        embedding_dim=meta.embedding_dim,
        token_dim=meta.token_dim,
        labels=list(meta.labels),
    )


Options = TypeVar("Options", bound=ClipOptions)


async def _read(request: Request, gateway: Gateway, query: Options) -> tuple[list[ClipInput], Options, engine.Model]:
    inputs, options = await read_request(request, query, gateway.reading)
    with closed_on_error(inputs):
        return inputs, options, gateway.recognizer.engine.model(options.model)


def _check_poses(inputs: list[ClipInput], options: PoseOptions, meta: ModelMetadata) -> None:
    """Refuse a request for joints that the model does not see."""
    if options.poses:
        with closed_on_error(inputs):
            check_sees_joints(meta)


async def _recognise(
    request: Request, gateway: Gateway, inputs: list[ClipInput], span: Span, model: engine.Model
) -> list[Recognised | Exception]:
    results = await while_connected(request, gateway, recognise(request, gateway, inputs, span, model))
    if len(results) == 1 and isinstance(results[0], Exception):
        raise results[0]
    return results


def _version(found: list[Recognised | Exception], meta: ModelMetadata) -> str:
    """The version that answered; a Triton server may have switched versions since the model was looked up."""
    answered = (result.windows[0].prediction.version for result in found if isinstance(result, Recognised))
    return next(answered, meta.version)


def _entry(head: BaseModel, result: Recognised, window: Callable[[Window], BaseModel]) -> Entry:
    return Entry(head, map(window, result.windows) if len(result.windows) > 1 else None)


async def _answer(
    gateway: Gateway,
    envelope: BaseModel,
    inputs: list[ClipInput],
    found: list[Recognised | Exception],
    meta: ModelMetadata,
    entry: Callable[[int, Recognised, str | None], Entry],
) -> Response:
    """The answer, with one entry per video, in order: its result, or its error."""
    # Here, because the store is not for several threads.
    ids = [remember(gateway, result, meta) if isinstance(result, Recognised) else None for result in found]

    def entries() -> Iterator[Entry]:
        for index, result in enumerate(found):
            if isinstance(result, Recognised):
                yield entry(index, result, ids[index])
            else:
                yield Entry(ItemError(index=index, name=inputs[index].name, error=problem_of(result).body))

    windows = sum(len(result.windows) for result in found if isinstance(result, Recognised))
    return await answered(envelope, entries(), windows=windows, most=gateway.settings.max_answer_bytes)
