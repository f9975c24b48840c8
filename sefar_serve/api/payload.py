"""Reads videos and options from a request: a multipart form, a raw body, or JSON with data URLs."""

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

from sefar_serve.api.encoding import BodyTooLargeError, JsonLimits, check_plain, parsed_json
from sefar_serve.api.errors import ApiError, validation_problem
from sefar_serve.clip import ClipError, EmptyVideoError
from sefar_serve.engine import EngineError
from sefar_serve.fetch import RemoteClip, UrlFetcher
from sefar_serve.fetch.fetcher import SPOOL_BYTES
from sefar_serve.language import GenerationError
from sefar_serve.options import ClipOptions
from sefar_serve.pose import PoseError
from sefar_serve.recognition import ClipInput
from sefar_serve.segments import UnknownLabelError

FILE_FIELDS = ("file", "files", "file[]", "files[]")

MAX_FIELDS = 256
"""Fields of a JSON object; no request has as many."""

_WHITESPACE = string.whitespace.encode()


class DataUrlError(ClipError):
    """The URL is not a valid base64 data URL."""

    code = "invalid_data_url"


@dataclass(frozen=True)
class Reading:
    """Limits for reading requests, and the fetcher for URLs.

    Attributes:
        max_bytes: largest body in bytes.
        json: limits on JSON bodies.
        max_clips: maximum number of videos in a request.
        fetcher: fetches videos that are given by URL.
    """

    max_bytes: int
    json: JsonLimits
    max_clips: int
    fetcher: UrlFetcher


Options = TypeVar("Options", bound=ClipOptions)


def body_forms(options: type[ClipOptions]) -> dict[str, Any]:
    """OpenAPI description of the three forms of a body that the route reads itself."""
    fields = options.model_json_schema()["properties"]
    url = {"type": "string"}
    given = {
        "anyOf": [url, {"type": "array", "items": url}],
        "description": "one video or a list of videos, each a base64 data URL (`data:video/mp4;base64,…`) or an "
        "http(s) URL on a host that the operator allows",
    }
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["file"],
                        "properties": {
                            "file": {
                                "type": "array",
                                "items": {"type": "string", "format": "binary"},
                                "description": "one or more video files",
                            },
                            **fields,
                        },
                    }
                },
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["input"],
                        "properties": {"input": given, **fields},
                    }
                },
                "video/*": {"schema": {"type": "string", "format": "binary"}},
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            },
        }
    }


async def read_request(request: Request, query: Options, reading: Reading) -> tuple[list[ClipInput], Options]:
    """Read a request in any of its forms.

    Options may be in the query in every form; options in the body override them.

    Args:
        request: its body not yet read.
        query: options from the query string.
        reading: limits, and the fetcher for URLs.

    Raises:
        ApiError: 400 if parts are invalid or missing, 413 if there are too many clips, 415 for JSON without its
            Content-Type.
        EmptyVideoError: 422 if there is no body.
        BodyTooLargeError, EncodingNotSupportedError, BrokenEncodingError: the body cannot be read.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    fields = query.model_dump(exclude_unset=True)
    if kind == "multipart/form-data":
        inputs, more = await _read_multipart(request, reading)
    elif kind == "application/json":
        inputs, more = await _read_json(request, reading)
    else:
        check_plain(request)
        inputs, more = [await _read_raw(_capped(request, reading.max_bytes), kind)], {}
    with closed_on_error(inputs):
        _check_number(len(inputs), reading.max_clips)
        return inputs, validated(type(query), fields | more)


Body = TypeVar("Body", bound=BaseModel)


def validated(kind: type[Body], fields: object, at: str = "") -> Body:
    """Validate fields of a request.

    Args:
        kind: the model to validate against.
        fields: fields of the body.
        at: path of the fields within the body; empty for the whole body.

    Raises:
        ApiError: 400; `param` is the invalid field.
    """
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        found = validation_problem({**first, "loc": (*([at] if at else []), *first["loc"])})
        raise ApiError(found.status, found.body.code, found.body.message, found.body.param) from error


@contextmanager
def closed_on_error(inputs: Sequence[ClipInput]) -> Iterator[None]:
    """Close the videos if the request is refused."""
    try:
        yield
    except (ApiError, EngineError, GenerationError, PoseError, UnknownLabelError):
        for item in inputs:
            item.close()
        raise


def _capped(request: Request, max_bytes: int) -> Request:
    """The same request; reading its body raises a 413 error once it exceeds the limit."""
    _check_declared(request, max_bytes)
    seen = 0

    async def receive() -> Message:
        nonlocal seen
        part = await request.receive()
        seen += len(part.get("body", b""))
        if seen > max_bytes:
            raise BodyTooLargeError(max_bytes)
        return part

    return Request(request.scope, receive)


def _check_number(clips: int, most: int) -> None:
    if clips > most:
        message = f"the request has {clips} clips; at most {most} are allowed, so send fewer"
        raise ApiError(413, "too_many_clips", message, "input")


def _check_declared(request: Request, max_bytes: int, kind: str = "") -> None:
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and (len(declared) > 20 or int(declared) > max_bytes):
        raise BodyTooLargeError(max_bytes, kind)


async def _read_multipart(request: Request, reading: Reading) -> tuple[list[ClipInput], dict[str, Any]]:
    form = await read_form(request, reading.max_bytes, files=reading.max_clips, fields=reading.max_clips + 64)
    try:
        return _sort_form(form, reading.fetcher)
    except ApiError:
        await form.close()
        raise


def _sort_form(form: FormData, fetcher: UrlFetcher) -> tuple[list[ClipInput], dict[str, Any]]:
    """The videos and options in a form."""
    inputs: list[ClipInput] = []
    fields: dict[str, Any] = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name not in FILE_FIELDS:
                raise ApiError(400, "invalid_parameter", f"{name}: unexpected file field; send videos as 'file'", name)
            inputs.append(_uploaded(value, len(inputs)))
        elif name == "input":
            inputs.append(video_at(value, f"input[{len(inputs)}]", fetcher))
        else:
            fields[name] = value
    if not inputs:
        raise ApiError(400, "missing_input", "the form has no video; send at least one as field 'file'", "file")
    return inputs, fields


def _uploaded(upload: UploadFile, index: int) -> ClipInput:
    return ClipInput(upload.filename or f"file {index}", lambda: upload.file, upload.file.close)


async def read_json(request: Request, limits: JsonLimits, *, example: str) -> Mapping[str, Any]:
    """Read a request's body as a JSON object.

    Args:
        request: its body not yet read.
        limits: limits on the body.
        example: a valid object, for the error message.

    Raises:
        ApiError: 400 if it is not a JSON object.
        BodyTooLargeError, JsonTooLargeError, EncodingNotSupportedError, BrokenEncodingError: see `parsed_json`.
    """
    _check_declared(request, limits.max_bytes, "JSON")
    try:
        fields = await parsed_json(request, limits)
    except ValueError as error:
        raise ApiError(400, "invalid_json", f"the body is not valid JSON: {error}") from error
    if not isinstance(fields, Mapping):
        raise ApiError(400, "invalid_json", f"the body must be a JSON object, e.g. {example}")
    if len(fields) > MAX_FIELDS:
        raise ApiError(400, "invalid_json", f"the body has {len(fields)} fields; at most {MAX_FIELDS} are allowed")
    return fields


async def read_form(request: Request, max_bytes: int, *, files: int, fields: int) -> FormData:
    """Read a request's multipart form; the caller closes it.

    Args:
        request: its body not yet read.
        max_bytes: largest body in bytes.
        files: maximum number of files.
        fields: maximum number of other fields.

    Raises:
        ApiError: 400 if the form is invalid.
        BodyTooLargeError, EncodingNotSupportedError: the body is too large, or compressed.
    """
    check_plain(request)
    try:
        return await _capped(request, max_bytes).form(
            max_files=files, max_fields=fields, max_part_size=64 * 1024 * 1024
        )
    except MultiPartException as error:
        raise ApiError(400, "invalid_multipart", f"the multipart form is invalid: {error.message}") from error


async def _read_json(request: Request, reading: Reading) -> tuple[list[ClipInput], dict[str, Any]]:
    fields = await read_json(request, reading.json, example='{"input": "data:video/mp4;base64,…"}')
    given = fields.get("input")
    urls = [given] if isinstance(given, str) else given
    if not isinstance(urls, list) or not urls or not all(isinstance(url, str) for url in urls):
        raise ApiError(400, "missing_input", "input: must be a data URL or a list of data URLs", "input")
    _check_number(len(urls), reading.max_clips)
    inputs = [video_at(url, f"input[{index}]", reading.fetcher) for index, url in enumerate(urls)]
    return inputs, {key: value for key, value in fields.items() if key != "input"}


def video_at(url: str, name: str, fetcher: UrlFetcher) -> ClipInput:
    """A video given as a data URL, or as a URL of a host that the operator allows.

    Args:
        url: URL of the video.
        name: name of the video in results and error messages.
        fetcher: fetches URLs.

    Raises:
        UrlNotAllowedError: the operator does not allow the URL's host.
    """
    if not url[:8].lower().startswith(("http://", "https://")):
        return ClipInput(name, lambda: decode_data_url(url, name))
    fetcher.allowed(url)
    return RemoteClip(name, lambda: fetcher.fetch(url), url=url)


def decode_data_url(url: str, name: str) -> bytes:
    """The bytes of a base64 data URL (RFC 2397).

    Args:
        url: e.g. ``data:video/mp4;base64,AAAA``; scheme and ``;base64`` in any case; white space in it is ignored.
        name: name of the video in error messages.

    Raises:
        DataUrlError: it is not a valid base64 data URL.
    """
    header, comma, data = url.partition(",")
    scheme, _, kind = header.lower().partition(":")
    if scheme != "data" or not comma or not kind.endswith(";base64"):
        raise DataUrlError(f"{name} is not a base64 data URL; it must start with data:video/mp4;base64,")
    try:
        # Command-line tools wrap base64 lines, so white space is ignored. Any other invalid character is an error.
        return base64.b64decode(data.encode("ascii").translate(None, _WHITESPACE), validate=True)
    except ValueError as error:
        raise DataUrlError(f"{name}: the data URL is not valid base64: {error}") from error


async def _read_raw(request: Request, kind: str) -> ClipInput:
    """The video that a body is.

    Args:
        request: its body not yet read.
        kind: its content type, lower case, without parameters; may be empty.
    """
    spool = tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115 - closed with the input
    try:
        async for chunk in request.stream():
            spool.write(chunk)
        if not spool.tell():
            raise EmptyVideoError(
                "the request has no body; send a video as the body, as field 'file' of a multipart form, or as JSON"
            )
        spool.seek(0)
        if not kind.startswith("video/") and kind != "application/octet-stream" and _is_json(spool.read(64)):
            sent = f"its Content-Type is {kind}" if kind else "it has no Content-Type"
            raise ApiError(
                415, "unsupported_media_type", f"the body is JSON, but {sent}; send Content-Type: application/json"
            )
    except BaseException:
        spool.close()
        raise
    spool.seek(0)
    return ClipInput("body", lambda: cast(BinaryIO, spool), spool.close)


def _is_json(head: bytes) -> bool:
    """Whether a body starts like a JSON object or list, which no video does."""
    return head.lstrip(b"\xef\xbb\xbf" + _WHITESPACE).startswith((b"{", b"["))
