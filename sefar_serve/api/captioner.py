"""The language model of an application, and the encoder whose features it reads."""

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

LONGEST_TOKEN = 32
"""More characters than this a token has in no text that makes sense, on average; ordinary ones have about four."""


@dataclass(frozen=True)
class Captioner:
    """A generator beside an engine."""

    generator: Generator
    engine: Engine
    settings: Settings

    def encoder(self) -> Model:
        """The model whose features the generator reads: the first that it fits.

        Raises:
            AdapterMismatchError: it fits none.
            EngineUnavailableError: no model is known yet.
        """
        return encoder_of(self.generator, self.engine)

    def report(self) -> None:
        """Say in the log what captions are made from, or why there are none: labels are served all the same."""
        name = self.generator.info.name
        try:
            encoder = self.encoder().metadata
        except AdapterMismatchError as error:
            log.warning("no captions: %s reads no features of the models here: %s", name, error)
        except EngineUnavailableError as error:
            log.warning("captions of %s wait for a model: %s", name, error)
        else:
            log.info("%s writes captions from the features of %s, version %s", name, encoder.name, encoder.version)

    def admit(self) -> None:
        """Refuse a request before any work is done for it, where its answer would find no place in the queue.

        Raises:
            GeneratorOverloadedError: as many answers wait or are being written as may.
        """
        waiting, most = self.generator.queue_depth, self.settings.max_generating
        if waiting >= most:
            raise GeneratorOverloadedError(
                f"{waiting} answers wait for the language model or are being written; try again later",
                retry_after=max(1, waiting // self.settings.generation_batch),
            )

    def check_length(self, texts: Iterable[str]) -> None:
        """Refuse texts that cannot fit: turning megabytes into tokens takes a minute, and others wait meanwhile.

        Raises:
            PromptTooLongError: they are longer than any text of as many tokens as the language model takes.
        """
        context = self.generator.info.context_length
        characters = sum(map(len, texts))
        if characters > context * LONGEST_TOKEN:
            raise PromptTooLongError(
                f"the texts have {characters} characters, and prompt and answer together may have {context} tokens; "
                "shorten them"
            )

    def check_clip(self, clip: StoredClip) -> None:
        """Refuse a clip that was seen by a model whose features the generator does not read.

        Raises:
            ApiError: 400.
        """
        try:
            self.generator.fits(clip.metadata)
        except AdapterMismatchError as error:
            message = (
                f"{clip.clip_id} was seen by {clip.metadata.name}, whose features this language model does not read; "
                "send the video itself"
            )
            raise ApiError(400, "clip_of_another_model", message, "messages") from error

    def check_name(self, name: str | None) -> None:
        """Refuse a request for another language model.

        Raises:
            ApiError: 404.
        """
        mine = self.generator.info.name
        if name not in (None, mine):
            raise ApiError(404, "model_not_found", f"there is no captioner {name!r} here; this is {mine!r}", "model")

    def options(
        self,
        max_tokens: int | None,
        temperature: float,
        top_p: float = 1.0,
        seed: int | None = None,
        stop: tuple[str, ...] = (),
    ) -> GenerationOptions:
        """What to ask of the generator for a request; an answer is never longer than the operator allows."""
        allowed = None if max_tokens is None else min(max_tokens, self.settings.max_tokens)
        return GenerationOptions(allowed, temperature, top_p, seed, stop)

    def noted_length(self, reply: Reply, wanted: int | None) -> Reply:
        """The reply, with a notice if its request wanted a longer one than is allowed.

        Args:
            reply: whole.
            wanted: tokens; None if the request does not say.
        """
        room = self.generator.info.context_length - reply.usage.prompt_tokens
        return noted(reply, cut_to(wanted, min(self.settings.max_tokens, room)))

    def abstain_below(self, wanted: float | None) -> float:
        """The threshold of a request: its own, or else the operator's."""
        return self.settings.abstain_below if wanted is None else wanted


def required(captioner: Captioner | None) -> Captioner:
    """The captioner.

    Raises:
        ApiError: 501 where there is none.
    """
    if captioner is None:
        raise ApiError(
            501,
            "no_language_model",
            "this server has no language model; install 'sefar-serve[mllm]' and start it with --captioner",
        )
    return captioner
