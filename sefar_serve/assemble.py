"""Builds the engine, the pose estimator, the language model and the limits that the settings ask for."""

from __future__ import annotations

import logging
from functools import partial

from sefar_serve.clip import ClipLimits
from sefar_serve.decoding import Decoders, ProcessDecoders, ProcessLimits, ThreadDecoders
from sefar_serve.engine import Engine, EngineUnavailableError
from sefar_serve.engine.choose import load_model
from sefar_serve.engine.local import LocalEngine
from sefar_serve.language import AdapterMismatchError, Generator
from sefar_serve.language.fitting import encoder_of
from sefar_serve.optional import needs_extra
from sefar_serve.pose import Estimators, make_estimator
from sefar_serve.recognition import Bounds
from sefar_serve.settings import Settings, shipped_captioner

log = logging.getLogger(__name__)

DEFAULT_TOKENS = 128
"""Default maximum length of an answer, in tokens."""


def bounds_of(settings: Settings) -> Bounds:
    """The limits on the recognizer."""
    limits = ClipLimits(
        max_bytes=settings.max_body_bytes,
        max_pixels=settings.max_pixels,
        max_duration=settings.max_duration,
        max_frames=settings.max_frames,
    )
    return Bounds(
        settings.decode_threads,
        settings.max_decoding,
        limits,
        settings.max_windows,
        windows_at_once=max(1, settings.max_queue // 2),
        max_decoded_bytes=settings.max_decoded_bytes,
        unfamiliar_below=settings.unfamiliar_below,
    )


def make_engine(settings: Settings) -> Engine:
    """Load the model that the settings name, or create the engine for their Triton server.

    Raises:
        ModelLoadError: if the model cannot be loaded.
        ModuleNotFoundError: if the package that the engine needs is not installed; the message names its extra.
    """
    # Each engine needs its own extra: a gateway in front of Triton has no onnxruntime.
    if settings.triton_url is not None:
        with needs_extra("triton"):
            from sefar_serve.engine.triton import TritonEngine, TritonOptions
        return TritonEngine(
            TritonOptions(
                url=settings.triton_url,
                models=settings.triton_models,
                shared_memory=settings.triton_shared_memory,
                timeout=settings.triton_timeout,
                max_inflight=settings.max_queue,
                probe=settings.triton_probe,
            )
        )
    model = load_model(
        settings.model,
        device=settings.device,
        runtime=settings.runtime,
        precision=settings.precision,
        threads=settings.inference_threads,
    )
    return LocalEngine(
        model,
        max_batch=settings.max_batch,
        max_wait=settings.max_wait_ms / 1000,
        max_queue=settings.max_queue,
    )


def make_estimators(settings: Settings) -> Estimators:
    """The pose estimator in the folder that the settings name; loaded when a model needs it.

    With `anonymous`, it refuses models that see more than joints, wherever a video is read for them.
    """
    return Estimators(partial(make_estimator, settings.pose_home), anonymous=settings.anonymous)


def make_decoders(settings: Settings, estimators: Estimators, *, serving: bool) -> Decoders:
    """Where videos are decoded, as the settings say: in processes, or in threads.

    Args:
        settings: all settings.
        estimators: find the joints for models that see them.
        serving: whether the videos are those of strangers; decides if `decode_in` is ``auto``.
    """
    within = settings.decode_in if settings.decode_in != "auto" else "processes" if serving else "threads"
    if within == "threads":
        return ThreadDecoders(settings.decode_threads, estimators)
    limits = ProcessLimits(settings.decode_timeout, settings.decode_memory)
    return ProcessDecoders(settings.decode_threads, estimators, limits, spare=settings.decode_threads)


def make_generator(settings: Settings) -> Generator | None:
    """Load the language model that the settings name, or create the generator for their vLLM server.

    Returns:
        None if captions are disabled, or if the captioner is `auto` and a package that it needs is missing.

    Raises:
        GenerationError: the adapter or its language model cannot be loaded.
        ModuleNotFoundError: the packages it needs are not installed.
    """
    if settings.captioner == "none":
        return None
    adapter = str(shipped_captioner()) if settings.captioner == "auto" else settings.captioner
    try:
        if settings.vllm_url is None:
            return _local_generator(adapter, settings)
        return _vllm_generator(adapter, settings.vllm_url, settings)
    except ModuleNotFoundError as error:
        if settings.captioner != "auto":
            raise
        log.info("captions are disabled: %s", error)
        return None


def make_served_generator(settings: Settings, engine: Engine) -> Generator | None:
    """As `make_generator`, but without the shipped captioner if it cannot read the features of any served model.

    A captioner that the settings name is kept: its error says what to change.
    """
    generator = make_generator(settings)
    if generator is None or settings.captioner != "auto":
        return generator
    try:
        encoder_of(generator, engine)
    except AdapterMismatchError:
        log.info(
            "captions are disabled: the shipped captioner was trained for the shipped model; train one for yours with "
            "`sefar adapter train`"
        )
        return None
    except EngineUnavailableError:
        log.debug("which models a server has is not known yet")
    return generator


def _local_generator(adapter: str, settings: Settings) -> Generator:
    with needs_extra("mllm"):
        from sefar_serve.mllm.generator import LocalGenerator
    return LocalGenerator(
        adapter,
        device=settings.captioner_device,
        max_batch=settings.generation_batch,
        max_queue=settings.max_generating,
        max_tokens=min(DEFAULT_TOKENS, settings.max_tokens),
    )


def _vllm_generator(adapter: str, url: str, settings: Settings) -> Generator:
    key = settings.vllm_api_key
    with needs_extra("mllm"):
        from sefar_serve.mllm.vllm import VllmGenerator
    return VllmGenerator(
        adapter,
        url,
        model=settings.vllm_model,
        api_key=None if key is None else key.get_secret_value(),
        max_inflight=settings.max_generating,
        max_tokens=min(DEFAULT_TOKENS, settings.max_tokens),
    )
