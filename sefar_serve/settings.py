"""All settings of the service. Each has one name as a flag, environment variable (SEFAR_*) and file entry."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

MIB = 1024 * 1024

_ORIGIN = re.compile(r"\*|[A-Za-z][A-Za-z0-9+.-]*://[^/?#\s*]+")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*")


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


def cpu_count() -> int:
    """Number of CPU cores of this machine."""
    return os.cpu_count() or 1


class Settings(BaseSettings):
    """Run the HTTP server.

    Give a setting as a flag (--max-batch 4), an environment variable (SEFAR_MAX_BATCH=4), or an entry in
    the TOML file that SEFAR_CONFIG names (max_batch = 4). A flag overrides the environment, and both
    override the file.
    """

    model_config = SettingsConfigDict(
        env_prefix="SEFAR_",
        extra="forbid",
        frozen=True,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_prog_name="sefar serve",
        cli_hide_none_type=True,
        cli_avoid_json=True,
        protected_namespaces=(),
    )

    model: Path = Field(default_factory=shipped_model, description="ONNX file to serve")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="device that runs the model; auto prefers a GPU")

    triton_url: str | None = Field(
        None, description="gRPC address (host:port) of a Triton server that runs the models; `model` is then ignored"
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
    max_job_clips: int = Field(100_000, ge=1, description="maximum number of clips in a job")

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 picks a free port")
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description="comma-separated API keys; if set, every path except the probes and /docs requires "
        "`Authorization: Bearer KEY`",
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
        default_factory=cpu_count,
        ge=1,
        description="number of videos decoded at the same time; one per core if not set",
    )
    max_decoding: int = Field(128, ge=1, description="maximum number of videos being decoded or waiting; more get 429")

    max_body_bytes: int = Field(
        256 * MIB, ge=1, description="maximum size of a request body in bytes; larger ones get 413"
    )
    max_clips: int = Field(64, ge=1, description="maximum number of clips in a request")
    max_pixels: int = Field(8192 * 4320, ge=1, description="maximum number of pixels in a frame")
    max_duration: float = Field(4 * 3600.0, gt=0, description="maximum length of a video in seconds")
    max_frames: int = Field(1_000_000, ge=1, description="maximum number of frames in a video")
    max_windows: int = Field(512, ge=1, description="maximum number of sliding windows over a video")
    request_timeout: float = Field(120.0, gt=0, description="timeout of a request in seconds; then 504")
    shutdown_grace: int = Field(30, ge=0, description="seconds that running requests have to finish at shutdown")

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="lowest level to log")
    log_format: Literal["json", "text"] = Field(
        "json", description="json writes one JSON object per line, text writes plain text"
    )

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
        config = os.environ.get("SEFAR_CONFIG")
        if config is None:
            return sources
        if not Path(config).is_file():
            raise FileNotFoundError(
                f"the file {config}, set in SEFAR_CONFIG, does not exist; correct or unset SEFAR_CONFIG"
            )
        return (*sources, TomlConfigSettingsSource(settings_cls, toml_file=config))
