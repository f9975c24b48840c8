"""The gateway's routes as requests to send and answers to read: written once, used by both clients."""

from __future__ import annotations

import base64
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Generic, Literal, TypedDict, TypeVar
from urllib.parse import quote

from pydantic import TypeAdapter

from sefar_client import uploads
from sefar_client.results import (
    Caption,
    ChatCompletion,
    Classification,
    Embedding,
    Job,
    LanguageModel,
    Model,
    Result,
    Video,
)
from sefar_client.uploads import Upload

T = TypeVar("T")
Answer = TypeVar("Answer", bound=Result)


class ClipOptions(TypedDict, total=False):
    """What every request about a video may say.

    `start` and `end` cut a clip out of it, in seconds; `model` is a name or name:version.
    """

    model: str | None
    start: float | None
    end: float | None


class WindowOptions(ClipOptions, total=False):
    """`window` and `stride`, in seconds, look at a long video through sliding windows."""

    window: float | None
    stride: float | None


class ClassifyOptions(WindowOptions, total=False):
    """Options of `classify`: how many labels (5), and whether with their attributes (yes) and logits (no)."""

    top_k: int
    attributes: bool
    raw_scores: bool


class EmbedOptions(WindowOptions, total=False):
    """Options of `embed`: which vectors to `include`, the embedding alone if left out."""

    include: Sequence[Literal["embedding", "tokens"]]


class CaptionOptions(WindowOptions, total=False):
    """Options of `caption`.

    `abstain_below` is the η under which a text that contradicts the classifier is withheld; `seed` makes one at a
    temperature above 0 come again; `top_k` is the number of the classifier's labels.
    """

    prompt: str
    max_tokens: int | None
    temperature: float
    seed: int | None
    abstain_below: float | None
    top_k: int


class AskOptions(ClipOptions, total=False):
    """Options of `ask`.

    `options` are choices to judge; `answer_mode` says how: by the likelihood of each ("loglik", what "auto" does where
    there are choices), of their letters ("letter"), or in free text ("generate"). The others are those of `caption` and
    OpenAI's.
    """

    max_tokens: int | None
    temperature: float
    top_p: float
    seed: int | None
    stop: str | Sequence[str]
    options: Sequence[str] | None
    answer_mode: Literal["auto", "loglik", "letter", "generate"]
    abstain_below: float | None


MEDIA_TYPES = {"parquet": "application/vnd.apache.parquet", "jsonl": "application/x-ndjson"}
"""What the gateway calls each format of a job's result."""


class JobOptions(TypedDict, total=False):
    """Options of `submit`.

    `top_k` is the number of labels per clip (5), `tokens` whether rows hold element tokens (no), `dtype` that of the
    vectors.
    """

    model: str | None
    top_k: int
    tokens: bool
    dtype: Literal["float32", "float16"]


class JobClip(TypedDict, total=False):
    """A clip of a job: a `path` on the server, or a `url`; `start` and `end` in seconds; `id` names its row."""

    path: str | os.PathLike[str]
    url: str
    start: float
    end: float
    id: str | int


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request, as often as it is sent.

    Attributes:
        method: of HTTP.
        path: below the gateway's address.
        read: makes the result of the answer's JSON.
        upload: a file to send as multipart, with `fields` beside it.
        fields: of the form, or the query where nothing is uploaded.
        json: body.
        headers: to send.
        done_code: of the refusal which says that an earlier try, whose answer was lost, was carried out.
    """

    method: str
    path: str
    read: Callable[[Any], T]
    upload: Upload | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    json: object = None
    headers: Mapping[str, str] = field(default_factory=dict)
    done_code: str | None = None

    @property
    def repeatable(self) -> bool:
        """Whether it can be sent again: a stream that cannot be rewound is gone after once."""
        return self.upload is None or uploads.repeatable(self.upload)

    @contextmanager
    def arguments(self) -> Iterator[dict[str, Any]]:
        """What to hand to httpx; a file is read from disk as it is sent, and closed after.

        Raises:
            OSError: it cannot be opened.
        """
        basic: dict[str, Any] = {"method": self.method, "url": self.path, "headers": dict(self.headers)}
        if self.upload is None:
            yield basic | ({"params": dict(self.fields)} if self.json is None else {"json": self.json})
        else:
            with uploads.opened(self.upload) as (name, content):
                yield basic | {"files": {"file": (name, content)}, "data": dict(self.fields)}


def classify(video: Video, options: Mapping[str, Any]) -> Call[Classification]:
    """POST /v1/classify."""
    return _about("/v1/classify", video, _given(options, ClassifyOptions), Classification)


def embed(video: Video, options: Mapping[str, Any]) -> Call[Embedding]:
    """POST /v1/embeddings; vectors come as base64, exact and a third of the size of decimals."""
    given = _given(options, EmbedOptions) | {"encoding_format": "base64"}
    return _about("/v1/embeddings", video, given, Embedding)


def caption(video: Video, options: Mapping[str, Any]) -> Call[Caption]:
    """POST /v1/captions."""
    return _about("/v1/captions", video, _given(options, CaptionOptions), Caption)


def ask(video: Video, question: str, options: Mapping[str, Any]) -> Call[ChatCompletion]:
    """POST /v1/chat/completions; reads the video, as that route takes JSON.

    Raises:
        OSError: it cannot be read.
    """
    given = _given(options, AskOptions)
    span = {name: given.pop(name) for name in ("start", "end") if name in given}
    parts: list[dict[str, Any]] = [
        {"type": "video_url", "video_url": {"url": _url(video), **span}},
        {"type": "text", "text": question},
    ]
    body = {"messages": [{"role": "user", "content": parts}], **given}
    return Call("POST", "/v1/chat/completions", ChatCompletion.model_validate, json=body)


def models() -> Call[list[Model | LanguageModel]]:
    """GET /v1/models."""
    kind = TypeAdapter[list[Model | LanguageModel]](list[Model | LanguageModel])
    return Call("GET", "/v1/models", lambda body: kind.validate_python(body["data"]))


def submit(
    clips: Sequence[Mapping[str, object]] | str | os.PathLike[str] | BinaryIO,
    options: Mapping[str, Any],
    key: str | None,
) -> Call[Job]:
    """POST /v1/jobs, of a list of clips or a manifest; the key makes it one job however often it is sent.

    Raises:
        TypeError: these are no clips.
        ValueError: an open manifest has no name that says its format.
    """
    headers = {"idempotency-key": key or uuid.uuid4().hex}
    given = _given(options, JobOptions)
    if isinstance(clips, Sequence) and not isinstance(clips, str | bytes | bytearray | memoryview):
        body = {"input": [_clip(clip) for clip in clips], **given}
        return Call("POST", "/v1/jobs", Job.model_validate, json=body, headers=headers)
    if not (isinstance(clips, str | os.PathLike) or hasattr(clips, "read")):
        raise TypeError(f"clips are a list, or a manifest by its path or as an open file, not {type(clips).__name__}")
    manifest = uploads.checked(clips, "the manifest")
    if not isinstance(manifest, str | os.PathLike | bytes) and not uploads.name_of(manifest):
        raise ValueError(
            "the manifest has no name, whose ending says its format; give a path, or an open file whose `name` is set "
            "to clips.csv, .jsonl or .parquet"
        )
    fields = {name: _text(value) for name, value in given.items()}
    return Call("POST", "/v1/jobs", Job.model_validate, upload=manifest, fields=fields, headers=headers)


def job(job_id: str | Job) -> Call[Job]:
    """GET /v1/jobs/ID."""
    return Call("GET", _path(job_id), Job.model_validate)


def jobs(limit: int, after: str | Job | None) -> Call[list[Job]]:
    """GET /v1/jobs."""
    fields = {"limit": str(limit)} | ({} if after is None else {"after": _id(after)})
    return Call("GET", "/v1/jobs", lambda body: [Job.model_validate(one) for one in body["data"]], fields=fields)


def cancel(job_id: str | Job) -> Call[Job]:
    """POST /v1/jobs/ID/cancel."""
    return Call("POST", f"{_path(job_id)}/cancel", Job.model_validate)


def delete(job_id: str | Job) -> Call[None]:
    """DELETE /v1/jobs/ID."""
    return Call("DELETE", _path(job_id), lambda _: None, done_code="job_not_found")


def download(job_id: str | Job, kind: str) -> Call[None]:
    """GET /v1/jobs/ID/result; its body is the file.

    Raises:
        ValueError: no such kind.
    """
    if kind not in MEDIA_TYPES:
        raise ValueError(f"there is no result as {kind!r}; choose {' or '.join(MEDIA_TYPES)}")
    return Call("GET", f"{_path(job_id)}/result", lambda _: None, fields={"format": kind})


def _clip(clip: object) -> dict[str, object]:
    """A clip of a job as JSON holds it.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(clip, Mapping):
        raise TypeError(f"a clip of a job is like {{'path': 'a.mp4'}}, not {type(clip).__name__} {clip!r}")
    return {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in clip.items()}


def _id(job: str | Job) -> str:
    """A job's id.

    Raises:
        TypeError: what was given is neither a job nor an id.
        ValueError: no job has this id, and as part of an address it would lead elsewhere.
    """
    name = job.id if isinstance(job, Job) else job
    if not isinstance(name, str):
        raise TypeError(f"a job is given as its id or as a Job, not {type(name).__name__}")
    if name in ("", ".", ".."):
        raise ValueError(f"{name!r} is no id of a job; `submit` and `jobs` give them")
    return name


def _path(job: str | Job) -> str:
    return f"/v1/jobs/{quote(_id(job), safe='')}"


def _about(path: str, video: Video, given: dict[str, Any], kind: type[Answer]) -> Call[Answer]:
    """A question about one video; what the answer says of the request as a whole goes into the one result."""

    def read(body: Any) -> Answer:
        return kind.model_validate({**body["data"][0], **{name: body[name] for name in ("model", "version", "usage")}})

    if isinstance(video, str) and video.startswith(("http://", "https://", "data:")):
        return Call("POST", path, read, json={"input": video, **given})
    upload = uploads.checked(video, "a video")
    return Call("POST", path, read, upload=upload, fields={name: _text(value) for name, value in given.items()})


def _url(video: Video) -> str:
    """A URL that holds or names the video."""
    if isinstance(video, str) and video.startswith(("sefar://", "http://", "https://", "data:")):
        return video
    content = uploads.content_of(uploads.checked(video, "a video"))
    return f"data:video/mp4;base64,{base64.b64encode(content).decode('ascii')}"


def _given(options: Mapping[str, Any], kind: type) -> dict[str, Any]:
    """The options that have a value.

    Raises:
        TypeError: one is not of this call.
    """
    known: frozenset[str] = kind.__optional_keys__  # type: ignore[attr-defined]  # every TypedDict has it
    if unknown := sorted(options.keys() - known):
        raise TypeError(f"unknown option {unknown[0]!r}; there are {', '.join(sorted(known))}")
    return {name: value for name, value in options.items() if value is not None}


def _text(value: object) -> str:
    """An option as a form's field."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(map(str, value))
    return str(value)
