"""Every knob of the service: one name each as flag, environment variable (SEFAR_*) and file entry."""

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

_ORIGIN = re.compile(r"\*|[A-Za-z][A-Za-z0-9+.-]*://[^/?#\s]+")


def shipped_model() -> Path:
    """The model that comes with the product: in the installed package, or at the top of a checkout."""
    package = Path(__file__).resolve().parent
    relative = Path("model_repository/sefar_encoder/1/model.onnx")
    installed = package / relative
    return installed if installed.is_file() else package.parent / relative


def shipped_captioner() -> Path:
    """The adapter that comes with the product, in the installed package or a checkout."""
    package = Path(__file__).resolve().parent
    relative = Path("adapters/sefar-synthgym-captioner")
    installed = package / relative
    return installed if installed.is_dir() else package.parent / relative


def every_core() -> int:
    """Number of this machine's cores."""
    return os.cpu_count() or 1


class Settings(BaseSettings):
    """Settings of the gateway and its engine, in this process or on a Triton server.

    Order of precedence: flags, environment (``SEFAR_MAX_BATCH=4``), the TOML file that
    ``SEFAR_CONFIG`` names (``max_batch = 4``), defaults.
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
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where the model runs")

    triton_url: str | None = Field(None, description="host:port of a Triton server's gRPC; it serves then, not `model`")
    triton_models: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="comma-separated names of Triton's models, the default first; all of ours if left out"
    )
    triton_shared_memory: bool = Field(False, description="tensors through /dev/shm, for a Triton on this machine")
    triton_timeout: float = Field(30.0, gt=0, description="seconds an inference there may take; beyond it, 504")
    triton_probe: float = Field(1.0, gt=0, description="seconds in which the idle model there must answer /readyz")

    captioner: str = Field(
        "auto",
        description="adapter that writes captions and answers: a folder or hub id; `none` for none; `auto` takes the "
        "shipped one where torch is installed and it fits the model",
    )
    captioner_device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where its language model runs")
    generation_batch: int = Field(8, ge=1, description="most answers written at a time")
    max_generating: int = Field(64, ge=1, description="most answers waiting or being written; beyond it, 429")
    max_tokens: int = Field(512, ge=1, description="longest answer that a request may ask for, in tokens")
    text_only_chat: bool = Field(False, description="answer chats without a video; if not, they get a 400")
    abstain_below: float = Field(
        0.0, ge=0, le=1, description="η under which a text that contradicts the classifier is withheld; 0 never does"
    )
    vllm_url: str | None = Field(
        None, description="a vLLM server with --enable-prompt-embeds; it runs the language model"
    )
    vllm_model: str | None = Field(
        None,
        description="what that server calls the language model; the adapter's LoRA or the model's own name if left out",
    )
    vllm_api_key: SecretStr | None = Field(None, description="key for the vLLM server")

    url_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="comma-separated hosts that videos may be fetched from (host or host:port); none if left out"
    )
    url_timeout: float = Field(30.0, gt=0, description="seconds that fetching a video may take")
    max_stored_clips: int = Field(1024, ge=0, description="clips whose features are held for questions by clip_id")

    jobs_dir: Path | None = Field(None, description="folder where batch jobs are kept; without one, there are none")
    job_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        (),
        description="comma-separated folders of videos that jobs may name by path; relative paths start from the first",
    )
    job_workers: int = Field(1, ge=1, description="decode processes of a job")
    jobs_at_once: int = Field(1, ge=1, description="jobs that run at the same time")
    max_jobs: int = Field(100, ge=1, description="most jobs waiting or running; beyond it, 429")
    max_job_clips: int = Field(100_000, ge=1, description="most clips in one job")

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description="comma-separated keys; with any set, all but the probes and /docs need `Authorization: Bearer KEY`",
    )
    root_path: str = Field("", description="path under which a proxy publishes the gateway, e.g. /sefar")
    keep_alive: int = Field(
        75, ge=1, description="seconds an idle connection stays open; longer than the load balancer's, often 60"
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="comma-separated origins whose web pages may call the gateway, e.g. https://app.example.com; `*` "
        "for every origin; none if left out",
    )

    max_batch: int = Field(8, ge=1, description="most clips in one inference; Triton has its own")
    max_wait_ms: float = Field(1.0, ge=0, description="milliseconds a batch waits to fill")
    max_queue: int = Field(256, ge=1, description="most clips waiting for the model; beyond it, 429")
    inference_threads: int = Field(0, ge=0, description="threads of one inference; 0 takes every core")
    decode_threads: int = Field(default_factory=every_core, ge=1, description="videos decoded at the same time")
    max_decoding: int = Field(128, ge=1, description="most videos decoding or waiting to; beyond it, 429")

    max_body_bytes: int = Field(256 * MIB, ge=1, description="largest request; beyond it, 413")
    max_clips: int = Field(64, ge=1, description="most clips in one request")
    max_pixels: int = Field(8192 * 4320, ge=1, description="most pixels in a frame")
    max_duration: float = Field(4 * 3600.0, gt=0, description="longest video in seconds")
    max_frames: int = Field(1_000_000, ge=1, description="most frames in a video")
    max_windows: int = Field(512, ge=1, description="most sliding windows in one video")
    request_timeout: float = Field(120.0, gt=0, description="seconds after which a request ends with 504")
    shutdown_grace: int = Field(30, ge=0, description="seconds that running requests get to finish")

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level logged")
    log_format: Literal["json", "text"] = Field("json", description="one JSON object a line, or plain text")

    @field_validator("api_keys", "triton_models", "url_hosts", "job_roots", "cors_origins", mode="before")
    @classmethod
    def _split_commas(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("root_path")
    @classmethod
    def _as_prefix(cls, value: str) -> str:
        inner = value.strip("/")
        return f"/{inner}" if inner else ""

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            # A browser sends an origin without path or trailing slash, so anything else would silently never match.
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is not an origin; give scheme://host, scheme://host:port or *")
        return tuple(origin.lower() for origin in value)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags and environment first, then the file that SEFAR_CONFIG names, if any."""
        sources: tuple[PydanticBaseSettingsSource, ...] = (init_settings, env_settings)
        config = os.environ.get("SEFAR_CONFIG")
        if config is None:
            return sources
        if not Path(config).is_file():
            raise FileNotFoundError(f"SEFAR_CONFIG names {config}, and there is no such file")
        return (*sources, TomlConfigSettingsSource(settings_cls, toml_file=config))
