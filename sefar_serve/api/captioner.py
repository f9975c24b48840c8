"""The gateway's language model, and the encoder whose features it reads."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from sefar_serve.api.errors import ApiError
from sefar_serve.api.notices import cut_to, noted
from sefar_serve.api.store import StoredClip
from sefar_serve.engine import Engine, EngineUnavailableError, Model
from sefar_serve.language import (
    AdapterMismatchError,
    GenerationOptions,
    Generator,
    GeneratorOverloadedError,
    PromptTooLongError,
)
from sefar_serve.language.fitting import encoder_of
from sefar_serve.language.replies import Reply
from sefar_serve.settings import Settings

log = logging.getLogger(__name__)

MAX_CHARACTERS_PER_TOKEN = 32
"""Upper bound on the average number of characters per token in real text; ordinary text has about four."""


@dataclass(frozen=True)
class Captioner:
    """A generator, and the engine that computes the features it reads."""

    generator: Generator
    engine: Engine
    settings: Settings

    def encoder(self) -> Model:
        """The first model whose features the generator can read.

        Raises:
            AdapterMismatchError: it can read the features of none of them.
            EngineUnavailableError: no model is loaded yet.
        """
        return encoder_of(self.generator, self.engine)

    def report(self) -> None:
        """Log which model captions are made from, or why captions are unavailable; labels are served either way."""
        name = self.generator.info.name
        try:
            encoder = self.encoder().metadata
        except AdapterMismatchError as error:
            log.warning("captions are unavailable: %s cannot read the features of any model here: %s", name, error)
        except EngineUnavailableError as error:
            log.warning("captions by %s are unavailable until a model is loaded: %s", name, error)
        else:
            log.info("%s writes captions from the features of %s, version %s", name, encoder.name, encoder.version)

    def admit(self) -> None:
        """Refuse a request before doing any work if the queue of the language model is full.

        Raises:
            GeneratorOverloadedError: `max_generating` answers are already waiting or being written.
        """
        waiting, most = self.generator.queue_depth, self.settings.max_generating
        if waiting >= most:
            raise GeneratorOverloadedError(
                f"the language model's queue is full ({waiting} answers waiting or being written); try again later",
                retry_after=max(1, waiting // self.settings.generation_batch),
            )

    def check_length(self, texts: Iterable[str]) -> None:
        """Refuse texts that cannot fit: tokenizing megabytes takes a minute and blocks other requests.

        Raises:
            PromptTooLongError: the texts are longer than the language model's context can possibly hold.
        """
        context = self.generator.info.context_length
        characters = sum(map(len, texts))
        if characters > context * MAX_CHARACTERS_PER_TOKEN:
            raise PromptTooLongError(
                f"the texts have {characters} characters, too many for the language model: prompt and answer together "
                f"may have {context} tokens; shorten the texts"
            )

    def check_clip(self, clip: StoredClip) -> None:
        """Refuse a stored clip whose features come from a model that the generator cannot read.

        Raises:
            ApiError: 400.
        """
        try:
            self.generator.fits(clip.metadata)
        except AdapterMismatchError as error:
            message = (
                f"{clip.clip_id} was processed by the model {clip.metadata.name}, whose features this language model "
                "cannot read; send the video instead of its clip_id"
            )
            raise ApiError(400, "clip_of_another_model", message, "messages") from error

    def check_name(self, name: str | None) -> None:
        """Refuse a request for another language model.

        Raises:
            ApiError: 404.
        """
        mine = self.generator.info.name
        if name not in (None, mine):
            message = f"there is no captioner {name!r} on this server; use {mine!r}, or leave `model` out"
            raise ApiError(404, "model_not_found", message, "model")

    def options(
        self,
        max_tokens: int | None,
        temperature: float,
        top_p: float = 1.0,
        seed: int | None = None,
        stop: tuple[str, ...] = (),
    ) -> GenerationOptions:
        """Generation options for a request; `max_tokens` is lowered to the operator's limit."""
        allowed = None if max_tokens is None else min(max_tokens, self.settings.max_tokens)
        return GenerationOptions(allowed, temperature, top_p, seed, stop)

    def noted_length(self, reply: Reply, wanted: int | None) -> Reply:
        """The reply, with a notice if the request asked for more tokens than allowed.

        Args:
            reply: the complete reply.
            wanted: `max_tokens` of the request; None if it has none.
        """
        room = self.generator.info.context_length - reply.usage.prompt_tokens
        return noted(reply, cut_to(wanted, min(self.settings.max_tokens, room)))

    def abstain_below(self, wanted: float | None) -> float:
        """The threshold of a request, or the operator's if the request sets none."""
        return self.settings.abstain_below if wanted is None else wanted


def required(captioner: Captioner | None) -> Captioner:
    """The captioner.

    Raises:
        ApiError: 501 if there is none.
    """
    if captioner is None:
        raise ApiError(
            501,
            "no_language_model",
            "this server has no language model; to enable captions, install 'sefar-serve[mllm]' and start the server "
            "with --captioner",
        )
    return captioner
