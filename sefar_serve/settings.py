"""All settings of the service. Each has one name as a flag, environment variable (SEFAR_*) and file entry."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic_settings
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from sefar_serve.cores import available_cores
from sefar_serve.errors import SefarError
from sefar_serve.reliability import UNFAMILIAR_BELOW
from sefar_serve.validation import explain

MIB = 1024 * 1024

PREFIX = "SEFAR_"
"""Prefix of the environment variables."""

CONFIG = "SEFAR_CONFIG"
"""The environment variable that names the TOML file."""

_OTHER_VARIABLES = frozenset(
    {CONFIG, "SEFAR_API_KEY", "SEFAR_TRITON_HOME", "SEFAR_SHARED_DATA"}  # of other programs
)

_ORIGIN = re.compile(r"\*|[A-Za-z][A-Za-z0-9+.-]*://[^/?#\s*]+")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*")


class SettingsError(SefarError, ValueError):
    """A setting has an unknown name or an invalid value; the message has one line for each problem."""

    code = "invalid_settings"


def shipped_model() -> Path:
    """Path of the shipped model, in the installed package or in a checkout."""
    package = Path(__file__).resolve().parent
    relative = Path("model_repository/sefar_encoder/1/model.onnx")
    installed = package / relative
    return installed if installed.is_file() else package.parent / relative


def shipped_captioner() -> Path:
    """Path of the shipped captioner adapter, in the installed package or in a checkout."""
    package = Path(__file__).resolve().parent
    relative = Path("adapters/sefar-synthgym-captioner")
    installed = package / relative
    return installed if installed.is_dir() else package.parent / relative


class Settings(BaseSettings):
    """Run the HTTP server.

    Give a setting as a flag (--max-batch 4), an environment variable (SEFAR_MAX_BATCH=4), or an entry in
    the TOML file that SEFAR_CONFIG names (max_batch = 4). A flag overrides the environment, and both
    override the file.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="forbid",
        frozen=True,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_exit_on_error=False,
        protected_namespaces=(),
    )

    model: Path = Field(default_factory=shipped_model, description="ONNX file to serve; the shipped model if not set")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="device that runs the model; auto prefers a GPU")
    runtime: Literal["auto", "onnxruntime", "openvino"] = Field(
        "onnxruntime",
        description="what runs the model on a CPU; auto measures both at the start and takes the faster one, so that "
        "the last digits of results may change with a restart",
    )
    precision: Literal["fp32", "bf16"] = Field(
        "fp32",
        description="what float operations are computed with; bf16 needs OpenVINO and a CPU with AVX-512 BF16 or AMX",
    )

    pose_home: Path | None = Field(
        None,
        description="folder that holds the pose models (`sefar pose setup --home FOLDER` downloads them); if not set, "
        "a folder in ~/.cache, where they are downloaded when a model that sees joints needs them",
    )
    anonymous: bool = Field(
        False,
        description="keep nothing of videos but joints; the model must see only joints (stream pose), otherwise the "
        "start fails",
    )

    triton_url: str | None = Field(
        None, description="gRPC address (host:port) of a Triton server to use instead of `model`"
    )
    triton_models: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="comma-separated names of Triton models to serve, the default first; all SeFAR models if not set",
    )
    triton_shared_memory: bool = Field(
        False, description="send tensors through shared memory (/dev/shm); Triton must run on this machine"
    )
    triton_timeout: float = Field(30.0, gt=0, description="timeout of a Triton inference in seconds; then 504")
    triton_probe: float = Field(
        1.0, gt=0, description="timeout in seconds of the test inference on an idle Triton model for /readyz"
    )

    captioner: str = Field(
        "auto",
        description="adapter for captions and answers: a folder or a hub id; `none` disables them; `auto` uses the "
        "shipped adapter if torch is installed and it fits the model",
    )
    captioner_device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="device that runs the language model; auto prefers a GPU"
    )
    generation_batch: int = Field(8, ge=1, description="maximum number of answers generated in one batch")
    max_generating: int = Field(
        64, ge=1, description="maximum number of answers waiting or being generated; more get 429"
    )
    max_tokens: int = Field(
        512, ge=1, description="maximum length of an answer in tokens; higher request limits are lowered to it"
    )
    text_only_chat: bool = Field(False, description="allow chats without a video; otherwise they get 400")
    abstain_below: float = Field(
        0.0, ge=0, le=1, description="withhold a text that contradicts the classifier if η is below this; 0 never does"
    )
    unfamiliar_below: float = Field(
        UNFAMILIAR_BELOW,
        ge=0,
        le=1,
        description="mark a clip as unfamiliar, and do not describe it, if its familiarity is below this; 0 never does",
    )
    vllm_url: str | None = Field(
        None, description="URL of a vLLM server (started with --enable-prompt-embeds) that runs the language model"
    )
    vllm_model: str | None = Field(
        None,
        description="name of the language model on the vLLM server; if not set, the adapter's LoRA or the model's name",
    )
    vllm_api_key: SecretStr | None = Field(None, description="API key for the vLLM server")

    url_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="comma-separated hosts (host or host:port) that videos may be fetched from; none if not set"
    )
    url_timeout: float = Field(30.0, gt=0, description="timeout of fetching a video by URL, in seconds")
    max_stored_clips: int = Field(1024, ge=0, description="number of clips kept in memory for questions by clip_id")

    jobs_dir: Path | None = Field(None, description="folder that stores batch jobs; batch jobs are disabled if not set")
    job_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        (),
        description="comma-separated folders that jobs may read videos from; relative paths start in the first",
    )
    job_workers: int = Field(1, ge=1, description="number of decoding processes per job")
    jobs_at_once: int = Field(1, ge=1, description="number of jobs that run at the same time")
    max_jobs: int = Field(100, ge=1, description="maximum number of jobs waiting or running; more get 429")
    job_retention: float = Field(
        7 * 24.0,
        ge=0,
        description="hours after which ended jobs and their results are deleted; 0 never does",
    )
    max_job_clips: int = Field(100_000, ge=1, description="maximum number of clips in a job")

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 picks a free port")
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description="comma-separated API keys; if set, every path except the probes and /docs requires "
        "`Authorization: Bearer KEY`",
    )
    keys_file: Path | None = Field(
        None,
        description="file of API keys with scopes, made by `sefar keys` and read again when it changes",
    )
    root_path: str = Field("", description="path prefix under which a proxy serves the gateway, e.g. /sefar")
    keep_alive: int = Field(
        75, ge=1, description="seconds that an idle connection stays open; must exceed the load balancer's (often 60)"
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="comma-separated origins whose web pages may call the gateway, e.g. https://app.example.com; `*` "
        "allows every origin; none if not set",
    )

    max_batch: int = Field(8, ge=1, description="maximum number of clips in a batch; Triton has its own setting")
    max_wait_ms: float = Field(1.0, ge=0, description="milliseconds that a batch waits for more clips")
    max_queue: int = Field(256, ge=1, description="maximum number of clips waiting for the model; more get 429")
    inference_threads: int = Field(0, ge=0, description="number of threads for an inference; 0 uses all cores")
    decode_threads: int = Field(
        default_factory=available_cores,
        ge=1,
        description="number of videos decoded at the same time; one per core if not set",
    )
    decode_in: Literal["auto", "processes", "threads"] = Field(
        "auto",
        description="where videos are decoded: `processes` survive videos that crash or hang them, `threads` suit your "
        "own videos; `auto`: processes in the server, threads elsewhere",
    )
    decode_timeout: float = Field(
        60.0,
        gt=0,
        description="seconds that decoding a video may take in a process; then 504. A video that cannot be decoded in "
        "that time gets 413",
    )
    decode_memory: int = Field(
        2048 * MIB, ge=64 * MIB, description="maximum number of bytes that decoding a video may use in a process"
    )
    max_requests: int = Field(
        256, ge=1, description="maximum number of POST requests in progress; more get 429 before their body is read"
    )
    max_decoding: int = Field(128, ge=1, description="maximum number of videos being decoded or waiting; more get 429")

    max_decoded_bytes: int = Field(
        1024 * MIB, ge=1, description="memory of all decoded clips in bytes; more videos wait until some of it is free"
    )

    max_body_bytes: int = Field(
        256 * MIB, ge=1, description="maximum size of a request body in bytes; larger ones get 413"
    )
    max_connections: int = Field(
        512, ge=1, description="maximum number of open connections; more get 503, except for the probes"
    )
    upload_timeout: float = Field(
        600.0, gt=0, description="maximum time for the body of a request in seconds; then 408"
    )
    min_upload_rate: int = Field(
        16 * 1024, ge=1, description="least mean rate of a body in bytes/s, after 20 s; slower ones get 408"
    )
    max_buffered_bytes: int = Field(
        1024 * MIB, ge=1, description="memory of the bodies of all requests in bytes; more get 429"
    )
    max_json_bytes: int = Field(
        64 * MIB,
        ge=1,
        description="maximum size of a JSON body in bytes, inflated; larger ones get 413; `max_body_bytes` holds too",
    )
    max_answer_bytes: int = Field(
        256 * MIB, ge=1, description="maximum size of an answer about videos in bytes; larger ones get 413"
    )
    max_clips: int = Field(64, ge=1, description="maximum number of clips in a request")
    max_pixels: int = Field(8192 * 4320, ge=1, description="maximum number of pixels in a frame")
    max_duration: float = Field(4 * 3600.0, gt=0, description="maximum length of a video in seconds")
    max_frames: int = Field(1_000_000, ge=1, description="maximum number of frames in a video")
    max_windows: int = Field(512, ge=1, description="maximum number of sliding windows over a video")
    request_timeout: float = Field(120.0, gt=0, description="timeout of a request in seconds; then 504")
    shutdown_grace: int = Field(30, ge=0, description="seconds that running requests have to finish at shutdown")

    otlp_endpoint: str | None = Field(
        None,
        description="URL of an OpenTelemetry collector (OTLP over HTTP), e.g. http://collector:4318, that gets traces; "
        "none are sent if not set",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="lowest level to log")
    log_format: Literal["json", "text"] = Field(
        "json", description="json writes one JSON object per line, text writes plain text"
    )

    @property
    def has_keys(self) -> bool:
        """Whether requests need an API key."""
        return bool(self.api_keys) or self.keys_file is not None

    @property
    def json_bytes(self) -> int:
        """Maximum size of a JSON body."""
        return min(self.max_json_bytes, self.max_body_bytes)

    @field_validator("api_keys", "triton_models", "url_hosts", "job_roots", "cors_origins", mode="before")
    @classmethod
    def _split_commas(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("root_path")
    @classmethod
    def _as_prefix(cls, value: str) -> str:
        prefix = value.rstrip("/")
        if not _PREFIX.fullmatch(prefix):
            raise ValueError(
                f"{value!r} is not a path prefix; start it with a slash and use letters, digits and ._~- between "
                "slashes, e.g. /sefar"
            )
        return prefix

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        # Browsers send origins without a path or trailing slash, so anything else would never match.
        origins = tuple(origin.removesuffix("/").lower() for origin in value)
        for given, origin in zip(value, origins, strict=True):
            if not _ORIGIN.fullmatch(origin):
                wildcard = "; a `*` within an origin is not supported, list each origin" if "*" in origin else ""
                raise ValueError(
                    f"{given!r} is not an origin; use scheme://host, scheme://host:port or * for all{wildcard}"
                )
        return origins

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags and environment variables first, then the file that SEFAR_CONFIG names, if set."""
        sources: tuple[PydanticBaseSettingsSource, ...] = (init_settings, env_settings)
        config = os.environ.get(CONFIG)
        if config is None:
            return sources
        return (*sources, InitSettingsSource(settings_cls, _entries(config)))


def read_settings(flags: Sequence[str] | None = None, **given: Any) -> Settings:
    """Read the settings from all sources.

    Args:
        flags: arguments of `sefar serve`.
        given: values by name; they override the environment and the file.

    Raises:
        SettingsError: an unknown name or an invalid value. The message names the flag, the variable or the file.
        FileNotFoundError: the file in SEFAR_CONFIG does not exist.
    """
    try:
        return Settings(_cli_parse_args=None if flags is None else list(flags), **given)
    except ValidationError as error:
        problems = [
            explain({**one, "loc": (_origin(str(one["loc"][0]), flags or (), given),)}) for one in error.errors()
        ]
        raise SettingsError("\n".join(dict.fromkeys(problems))) from error
    except pydantic_settings.SettingsError as error:
        raise SettingsError(str(error).removeprefix("error parsing CLI: ")) from error


def flag_of(name: str) -> str:
    """The flag of `sefar serve` for a setting."""
    return "--" + name.replace("_", "-")


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """The end of an error message about an unknown name: a question with the most similar name, or nothing.

    Args:
        name: the unknown name.
        known: all names.
        cutoff: required similarity, from 0 to 1.
    """
    found = get_close_matches(name, known, n=1, cutoff=cutoff)
    return f"; did you mean {found[0]}?" if found else ""


def misspelled_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Environment variables that look like a setting and are not, each with the variable that was probably meant."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    unknown = sorted(name for name in environment if name.startswith(PREFIX))
    found = {
        name: get_close_matches(name, known, n=1, cutoff=0.85)
        for name in unknown
        if name not in known | _OTHER_VARIABLES
    }
    return {name: close[0] for name, close in found.items() if close}


def _origin(name: str, flags: Sequence[str], given: Mapping[str, Any]) -> str:
    """The name of a setting as the user wrote it, in the source that its value comes from."""
    flag = flag_of(name)
    if any(one.partition("=")[0] == flag for one in flags):
        return flag
    if name in given:
        return name
    variable = PREFIX + name.upper()
    if any(one.upper() == variable for one in os.environ):
        return variable
    return f"{os.environ[CONFIG]}: {name}" if CONFIG in os.environ else name


def _entries(file: str) -> dict[str, Any]:
    """Read the TOML file.

    Raises:
        FileNotFoundError: it does not exist.
        SettingsError: it is not TOML, or has an unknown key.
    """
    if not Path(file).is_file():
        raise FileNotFoundError(f"the file {file}, set in {CONFIG}, does not exist; correct or unset {CONFIG}")
    try:
        entries = tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} is not valid TOML: {error}") from error
    unknown = sorted(entries.keys() - Settings.model_fields.keys())
    if unknown:
        problems = [f"{file}: unknown setting {name!r}{nearest(name, Settings.model_fields)}" for name in unknown]
        raise SettingsError("\n".join(problems))
    return entries
