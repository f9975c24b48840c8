"""Text from clips: the generator protocol, its errors, a fake. The real ones, which need torch, import apart."""

from sefar_serve.generation.base import (
    PLACEHOLDER,
    ClipFeatures,
    FinishReason,
    GenerationOptions,
    Generator,
    GeneratorInfo,
    Message,
    OptionScore,
    Piece,
    Role,
    Scores,
    TokenUsage,
)
from sefar_serve.generation.errors import (
    AdapterMismatchError,
    AdapterNotFoundError,
    FeatureMismatchError,
    GenerationError,
    GenerationFailedError,
    GeneratorOverloadedError,
    GeneratorUnavailableError,
    PromptError,
    PromptTooLongError,
)
from sefar_serve.generation.fake import FakeGenerator

__all__ = [
    "PLACEHOLDER",
    "AdapterMismatchError",
    "AdapterNotFoundError",
    "ClipFeatures",
    "FakeGenerator",
    "FeatureMismatchError",
    "FinishReason",
    "GenerationError",
    "GenerationFailedError",
    "GenerationOptions",
    "Generator",
    "GeneratorInfo",
    "GeneratorOverloadedError",
    "GeneratorUnavailableError",
    "Message",
    "OptionScore",
    "Piece",
    "PromptError",
    "PromptTooLongError",
    "Role",
    "Scores",
    "TokenUsage",
]
