"""Requests to the gateway's routes and how to read their answers, shared by both clients."""

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
from sefar_client.base import Result
from sefar_client.results import Classification, Embedding
from sefar_client.served import Job, LanguageModel, Model
from sefar_client.texts import Caption, ChatCompletion
from sefar_client.uploads import Upload
from sefar_client.videos import Video

T = TypeVar("T")
Answer = TypeVar("Answer", bound=Result)


class ClipOptions(TypedDict, total=False):
    """Options of every request about a video.

    `start` and `end` select a clip of it, in seconds; `model` is a name or name:version.
    """

    model: str | None
    start: float | None
    end: float | None


class WindowOptions(ClipOptions, total=False):
    """`window` and `stride`, in seconds, process a long video in sliding windows; `window` may be several lengths."""

    window: float | Sequence[float] | None
    stride: float | None


class ClassifyOptions(WindowOptions, total=False):
    """Options of `classify`.

    `top_k` is the number of labels (default 5). `attributes` (default true) adds attributes to labels, `raw_scores`
    (default false) logits. `poses` (default false) adds joints, if the model sees them. With a `window`, `smoothing`,
    `min_segment` (seconds) and `background` (a label that is left out) change how windows are merged to segments.
    """

    top_k: int
    attributes: bool
    raw_scores: bool
    poses: bool
    smoothing: float | None
    min_segment: float | None
    background: str | None


class EmbedOptions(WindowOptions, total=False):
    """Options of `embed`: which vectors to `include`; by default only the embedding. `poses` adds joints."""

    include: Sequence[Literal["embedding", "tokens"]]
    poses: bool


class CaptionOptions(WindowOptions, total=False):
    """Options of `caption`.

    `abstain_below` is the η below which a text that contradicts the classifier is withheld. `seed` makes a text
    reproducible at a temperature above 0. `top_k` is the number of the classifier's labels.
    """

    prompt: str
    max_tokens: int | None
    temperature: float
    seed: int | None
    abstain_below: float | None
    top_k: int


class AskOptions(ClipOptions, total=False):
    """Options of `ask`.

    `options` are choices to judge. `answer_mode` says how: by the likelihood of each choice ("loglik", which "auto"
    uses if there are choices), by the likelihood of their letters ("letter"), or in free text ("generate"). The others
    are those of `caption` and of OpenAI's API.
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
"""Content types of a job's result, by format."""


class JobOptions(TypedDict, total=False):
    """Options of `submit`.

    `top_k` is the number of labels per clip (default 5), `tokens` whether rows have element tokens (default false),
    `poses` whether they have the joints that the model saw (default false), `dtype` the dtype of
    the vectors (default float32).
    """

    model: str | None
    top_k: int
    tokens: bool
    poses: bool
    dtype: Literal["float32", "float16"]


class JobClip(TypedDict, total=False):
    """A clip of a job: a `path` on the server or a `url`, optional `start` and `end` in seconds, and an `id`."""

    path: str | os.PathLike[str]
    url: str
    start: float
    end: float
    id: str | int


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request, which may be sent several times.

    Attributes:
        method: HTTP method.
        path: path below the gateway's address.
        read: makes the result from the JSON of the answer.
        upload: file to send as multipart, together with `fields`.
        fields: form fields, or query parameters if nothing is uploaded.
        json: JSON body.
        headers: additional headers.
        done_code: error code that means that an earlier attempt, whose answer was lost, succeeded.
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
        """Whether it can be sent again; a stream that cannot be rewound can be sent only once."""
        return self.upload is None or uploads.repeatable(self.upload)

    @contextmanager
    def arguments(self) -> Iterator[dict[str, Any]]:
        """Arguments for httpx. A file is read from disk while it is sent, and then closed.

        Raises:
            OSError: the file cannot be opened.
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
    """POST /v1/embeddings. Vectors come as base64, which is exact and a third of the size of decimals."""
    given = _given(options, EmbedOptions) | {"encoding_format": "base64"}
    return _about("/v1/embeddings", video, given, Embedding)


def caption(video: Video, options: Mapping[str, Any]) -> Call[Caption]:
    """POST /v1/captions."""
    return _about("/v1/captions", video, _given(options, CaptionOptions), Caption)


def ask(video: Video, question: str, options: Mapping[str, Any]) -> Call[ChatCompletion]:
    """POST /v1/chat/completions. Reads the whole video, because that route takes JSON.

    Raises:
        OSError: the video cannot be read.
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
    """POST /v1/jobs with a list of clips or a manifest. However often it is sent, the key makes it one job.

    Raises:
        TypeError: `clips` is neither a list of clips nor a manifest.
        ValueError: an open manifest has no file name, which gives its format.
    """
    headers = {"idempotency-key": key or uuid.uuid4().hex}
    given = _given(options, JobOptions)
    if isinstance(clips, Sequence) and not isinstance(clips, str | bytes | bytearray | memoryview):
        body = {"input": [_clip(clip) for clip in clips], **given}
        return Call("POST", "/v1/jobs", Job.model_validate, json=body, headers=headers)
    if not (isinstance(clips, str | os.PathLike) or hasattr(clips, "read")):
        raise TypeError(f"clips must be a list, or a manifest as a path or an open file, not {type(clips).__name__}")
    manifest = uploads.checked(clips, "the manifest")
    if not isinstance(manifest, str | os.PathLike | bytes) and not uploads.name_of(manifest):
        raise ValueError(
            "the manifest has no file name, so its format is unknown; give a path, or set the `name` of the open file "
            "to clips.csv, clips.jsonl or clips.parquet"
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
    """GET /v1/jobs/ID/result. The body is the file.

    Raises:
        ValueError: unknown format.
    """
    if kind not in MEDIA_TYPES:
        raise ValueError(f"unknown result format {kind!r}; choose {' or '.join(MEDIA_TYPES)}")
    return Call("GET", f"{_path(job_id)}/result", lambda _: None, fields={"format": kind})


def _clip(clip: object) -> dict[str, object]:
    """Convert a clip of a job to JSON.

    Raises:
        TypeError: it is not a mapping.
    """
    if not isinstance(clip, Mapping):
        raise TypeError(f"a clip of a job must be like {{'path': 'a.mp4'}}, not {type(clip).__name__} {clip!r}")
    return {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in clip.items()}


def _id(job: str | Job) -> str:
    """Id of a job.

    Raises:
        TypeError: `job` is neither a job nor an id.
        ValueError: it is not a valid id, and would change the request path.
    """
    name = job.id if isinstance(job, Job) else job
    if not isinstance(name, str):
        raise TypeError(f"a job must be given as its id or as a Job, not {type(name).__name__}")
    if name in ("", ".", ".."):
        raise ValueError(f"{name!r} is not a job id; use one from `submit` or `jobs`")
    return name


def _path(job: str | Job) -> str:
    return f"/v1/jobs/{quote(_id(job), safe='')}"


def _about(path: str, video: Video, given: dict[str, Any], kind: type[Answer]) -> Call[Answer]:
    """A request about one video. Fields of the answer as a whole are copied into the one result."""

    def read(body: Any) -> Answer:
        return kind.model_validate({**body["data"][0], **{name: body[name] for name in ("model", "version", "usage")}})

    if isinstance(video, str) and video.startswith(("http://", "https://", "data:")):
        return Call("POST", path, read, json={"input": video, **given})
    upload = uploads.checked(video, "a video")
    return Call("POST", path, read, upload=upload, fields={name: _text(value) for name, value in given.items()})


def _url(video: Video) -> str:
    """A URL that contains the video or points to it."""
    if isinstance(video, str) and video.startswith(("sefar://", "http://", "https://", "data:")):
        return video
    content = uploads.content_of(uploads.checked(video, "a video"))
    return f"data:video/mp4;base64,{base64.b64encode(content).decode('ascii')}"


def _given(options: Mapping[str, Any], kind: type) -> dict[str, Any]:
    """The options that have a value.

    Raises:
        TypeError: an option does not exist for this call.
    """
    known: frozenset[str] = kind.__optional_keys__  # type: ignore[attr-defined]  # every TypedDict has it
    if unknown := sorted(options.keys() - known):
        raise TypeError(f"unknown option {unknown[0]!r}; the options are {', '.join(sorted(known))}")
    return {name: value for name, value in options.items() if value is not None}


def _text(value: object) -> str:
    """Format an option as a form field."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(map(str, value))
    return str(value)
