"""Reading requests: the same videos and options as multipart form, raw body, or JSON with data URLs."""

from __future__ import annotations

import base64
import string
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar, cast

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException
from starlette.types import Message

from sefar_serve.api.encoding import BodyTooLargeError, check_plain, parsed_json
from sefar_serve.api.errors import ApiError, validation_problem
from sefar_serve.clip import ClipError
from sefar_serve.engine import EngineError
from sefar_serve.fetch import RemoteClip, UrlFetcher
from sefar_serve.fetch.fetcher import SPOOL_BYTES
from sefar_serve.language import GenerationError
from sefar_serve.options import ClipOptions
from sefar_serve.recognition import ClipInput

FILE_FIELDS = ("file", "files", "file[]", "files[]")

_WHITESPACE = string.whitespace.encode()


class DataUrlError(ClipError):
    """A data URL that does not carry base64 data."""

    code = "invalid_data_url"


@dataclass(frozen=True)
class Reading:
    """How requests are read.

    Attributes:
        max_bytes: largest body.
        max_clips: most videos.
        fetcher: of videos that are given by URL.
    """

    max_bytes: int
    max_clips: int
    fetcher: UrlFetcher


Options = TypeVar("Options", bound=ClipOptions)


def body_forms(options: type[ClipOptions]) -> dict[str, Any]:
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


async def read_request(request: Request, query: Options, reading: Reading) -> tuple[list[ClipInput], Options]:
    """Read a request whatever its form.

    Query parameters count in every form; those in the body win.

    Args:
        request: its body not yet read.
        query: the options that its query gives.
        reading: limits, and how URLs are fetched.

    Raises:
        ApiError: 400 for malformed or missing parts, 413 for too many clips.
        BodyTooLargeError, EncodingNotSupportedError, BrokenEncodingError: the body is not one that can be read.
    """
    max_clips = reading.max_clips
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    fields = query.model_dump(exclude_unset=True)
    if kind == "multipart/form-data":
        inputs, more = await _read_multipart(request, reading)
    elif kind == "application/json":
        inputs, more = await _read_json(request, reading)
    else:
        check_plain(request)
        inputs, more = [await _read_raw(_capped(request, reading.max_bytes))], {}
    with closed_on_error(inputs):
        if len(inputs) > max_clips:
            message = f"{len(inputs)} clips in one request, at most {max_clips} are allowed"
            raise ApiError(413, "too_many_clips", message, "input")
        return inputs, validated(type(query), fields | more)


Body = TypeVar("Body", bound=BaseModel)


def validated(kind: type[Body], fields: object, at: str = "") -> Body:
    """What a request asks for.

    Args:
        kind: of thing it is.
        fields: of the body.
        at: where in the body they are; empty: they are all of it.

    Raises:
        ApiError: 400, naming the field at fault.
    """
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        told = validation_problem([{**one, "loc": (*([at] if at else []), *one["loc"])} for one in error.errors()])
        raise ApiError(told.status, told.body.code, told.body.message, told.body.param) from error


@contextmanager
def closed_on_error(inputs: Sequence[ClipInput]) -> Iterator[None]:
    """Close videos that will not be handed on because the request is refused."""
    try:
        yield
    except (ApiError, EngineError, GenerationError):
        for item in inputs:
            item.close()
        raise


def _capped(request: Request, max_bytes: int) -> Request:
    """The same request, whose body ends in a 413 once it passes the limit."""
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > max_bytes:
        raise BodyTooLargeError(max_bytes)
    seen = 0

    async def receive() -> Message:
        nonlocal seen
        part = await request.receive()
        seen += len(part.get("body", b""))
        if seen > max_bytes:
            raise BodyTooLargeError(max_bytes)
        return part

    return Request(request.scope, receive)


async def _read_multipart(request: Request, reading: Reading) -> tuple[list[ClipInput], dict[str, Any]]:
    form = await read_form(request, reading.max_bytes, files=reading.max_clips, fields=reading.max_clips + 64)
    try:
        return _sort_form(form, reading.fetcher)
    except ApiError:
        await form.close()
        raise


def _sort_form(form: FormData, fetcher: UrlFetcher) -> tuple[list[ClipInput], dict[str, Any]]:
    """Videos and options of a form."""
    inputs: list[ClipInput] = []
    fields: dict[str, Any] = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name not in FILE_FIELDS:
                raise ApiError(400, "invalid_parameter", f"{name}: send videos as field 'file'", name)
            inputs.append(_uploaded(value, len(inputs)))
        elif name == "input":
            inputs.append(video_at(value, f"input[{len(inputs)}]", fetcher))
        else:
            fields[name] = value
    if not inputs:
        raise ApiError(400, "missing_input", "no video in the form; send at least one as field 'file'", "file")
    return inputs, fields


def _uploaded(upload: UploadFile, index: int) -> ClipInput:
    return ClipInput(upload.filename or f"file {index}", lambda: upload.file, upload.file.close)


async def read_json(request: Request, max_bytes: int, *, example: str) -> Mapping[str, Any]:
    """A request's body as a JSON object.

    Args:
        request: its body not yet read.
        max_bytes: largest body.
        example: of such an object, for the error message.

    Raises:
        ApiError: 400 if it is none.
        BodyTooLargeError, EncodingNotSupportedError, BrokenEncodingError: see `parsed_json`.
    """
    try:
        fields = await parsed_json(_capped(request, max_bytes), max_bytes)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "invalid_json", f"the body is not JSON: {error}") from error
    if not isinstance(fields, Mapping):
        raise ApiError(400, "invalid_json", f"the body must be a JSON object, e.g. {example}")
    return fields


async def read_form(request: Request, max_bytes: int, *, files: int, fields: int) -> FormData:
    """A request's multipart form; the caller closes it.

    Args:
        request: its body not yet read.
        max_bytes: largest body.
        files: most files in it.
        fields: most other fields.

    Raises:
        ApiError: 400 if it is malformed.
        BodyTooLargeError, EncodingNotSupportedError: it is too large, or compressed.
    """
    check_plain(request)
    try:
        return await _capped(request, max_bytes).form(
            max_files=files, max_fields=fields, max_part_size=64 * 1024 * 1024
        )
    except MultiPartException as error:
        raise ApiError(400, "invalid_multipart", f"the multipart form cannot be read: {error.message}") from error


async def _read_json(request: Request, reading: Reading) -> tuple[list[ClipInput], dict[str, Any]]:
    fields = await read_json(request, reading.max_bytes, example='{"input": "data:video/mp4;base64,…"}')
    given = fields.get("input")
    urls = [given] if isinstance(given, str) else given
    if not isinstance(urls, list) or not urls or not all(isinstance(url, str) for url in urls):
        raise ApiError(400, "missing_input", "input must be a data URL or a list of them", "input")
    inputs = [video_at(url, f"input[{index}]", reading.fetcher) for index, url in enumerate(urls)]
    return inputs, {key: value for key, value in fields.items() if key != "input"}


def video_at(url: str, name: str, fetcher: UrlFetcher) -> ClipInput:
    """A video given by a data URL, or by the URL of a host that the operator allows.

    Args:
        url: of the video.
        name: for answers and error messages.
        fetcher: of URLs.

    Raises:
        UrlNotAllowedError: it is a URL of another host.
    """
    if not url[:8].lower().startswith(("http://", "https://")):
        return ClipInput(name, lambda: decode_data_url(url, name))
    fetcher.allowed(url)
    return RemoteClip(name, lambda: fetcher.fetch(url), url=url)


def decode_data_url(url: str, name: str) -> bytes:
    """The bytes of a base64 data URL (RFC 2397).

    Args:
        url: e.g. ``data:video/mp4;base64,AAAA``; scheme and ``;base64`` in any case, white space in the data.
        name: for error messages.

    Raises:
        DataUrlError: if it is not a data URL in base64.
    """
    header, comma, data = url.partition(",")
    scheme, _, kind = header.lower().partition(":")
    if scheme != "data" or not comma or not kind.endswith(";base64"):
        raise DataUrlError(f"{name} is not a base64 data URL; it should begin with data:video/mp4;base64,")
    try:
        # Command line tools wrap lines, which changes nothing; any other character that base64 lacks is an error.
        return base64.b64decode(data.encode("ascii").translate(None, _WHITESPACE), validate=True)
    except ValueError as error:
        raise DataUrlError(f"{name}: the data URL's base64 is broken: {error}") from error


async def _read_raw(request: Request) -> ClipInput:
    spool = tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115 - closed with the input
    try:
        async for chunk in request.stream():
            spool.write(chunk)
    except BaseException:
        spool.close()
        raise
    spool.seek(0)
    return ClipInput("body", lambda: cast(BinaryIO, spool), spool.close)
