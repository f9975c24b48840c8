"""The interface of generators: messages with clips in them go in, text comes out. Compare `sefar_serve.engine`.

Generators see only the SeFAR features of a clip. Each one decides where its language model runs: in this
process or on another server.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sefar_serve.metadata import ModelMetadata

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length"]

PLACEHOLDER = "<sefar>"
"""Stands for a clip in a prompt; the processor expands it to one soft token per feature vector."""

CAPTION_PROMPT = "Describe the action in this clip."
"""The default prompt for captions; adapters are trained with it."""


@dataclass(frozen=True, eq=False)
class ClipFeatures:
    """The encoder's features of one clip.

    Attributes:
        embedding: float32 (256,), the clip embedding.
        tokens: float32 (E, D), one vector per temporal element, the context last.
    """

    embedding: NDArray[np.float32]
    tokens: NDArray[np.float32]


@dataclass(frozen=True)
class Message:
    """One turn of a conversation: text and clips in reading order."""

    role: Role
    content: tuple[str | ClipFeatures, ...]


@dataclass(frozen=True)
class GenerationOptions:
    """How to generate.

    Attributes:
        max_tokens: maximum number of tokens to generate; None for the generator's default. If the context has room
            for fewer, the answer ends with ``length``.
        temperature: 0 always takes the most probable token; higher values give more varied text.
        top_p: sample only from the most probable tokens that together have this probability.
        seed: the same seed and request give the same text; None gives a different text each time.
        stop: texts that end the answer and are not part of it.
    """

    max_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class TokenUsage:
    """Tokens of the language model; soft tokens of clips count as prompt tokens."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Piece:
    """The next part of an answer.

    Attributes:
        text: may be empty.
        finish_reason: set on the last piece: ``stop`` (the model or a stop text ended it) or ``length``.
        usage: set on the last piece.
    """

    text: str
    finish_reason: FinishReason | None = None
    usage: TokenUsage | None = None


@dataclass(frozen=True)
class OptionScore:
    """How probable one option is as the whole answer.

    Attributes:
        logprob: sum of the natural log-probabilities of its tokens and of the end token; at most 0.
        tokens: number of these tokens.
    """

    logprob: float
    tokens: int


@dataclass(frozen=True)
class Scores:
    """The scores of several options, in their order."""

    options: tuple[OptionScore, ...]
    usage: TokenUsage


@dataclass(frozen=True)
class GeneratorInfo:
    """The description of a generator.

    Attributes:
        name: the name that clients pass as `model`.
        context_length: maximum number of tokens of prompt and answer together.
        backend: where the language model runs, e.g. ``in-process`` or ``vllm``.
        language_model: name or path of the language model.
    """

    name: str
    context_length: int
    backend: str
    language_model: str


class Generator(Protocol):
    """Generates text. Safe to call from many tasks of one event loop; all work is done outside the loop."""

    @property
    def info(self) -> GeneratorInfo:
        """The generator's description."""

    @property
    def queue_depth(self) -> int:
        """Number of requests accepted but not yet answered."""

    async def start(self) -> None:
        """Make the generator ready.

        Raises:
            GenerationError: if it can never become ready.
        """

    async def close(self) -> None:
        """Stop running work and release everything. Safe to call twice."""

    async def check(self) -> None:
        """Check that it answers.

        Raises:
            GenerationError: if it does not.
        """

    def fits(self, metadata: ModelMetadata) -> None:
        """Check that the adapter was trained for the features of an encoder.

        Raises:
            AdapterMismatchError: if name, version or sizes differ.
        """

    def generate(self, messages: Sequence[Message], options: GenerationOptions) -> AsyncGenerator[Piece, None]:
        """Answer a conversation, piece by piece; closing the iterator stops the work.

        Args:
            messages: at least one, the last from the user.
            options: how to generate.

        Raises:
            PromptError: the model cannot take the messages (too long, a placeholder in a text,
                features of a wrong size). This error and the following ones are raised by the first step.
            GeneratorOverloadedError: the queue is full; nothing was started.
            GeneratorUnavailableError: the generator is not started, is closing, or cannot be reached.
        """

    async def score(self, messages: Sequence[Message], options: Sequence[str]) -> Scores:
        """Score how probable each of several texts is as the whole answer.

        Args:
            messages: as for `generate`.
            options: the texts, at least one, none of them empty.

        Raises:
            PromptError, GeneratorOverloadedError, GeneratorUnavailableError: as `generate`.
        """
