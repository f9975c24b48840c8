"""sefar-serve: fine-grained action recognition from few labels.

`load` loads a model to use from Python:

    import sefar_serve as sefar

    model = sefar.load()
    print(model.classify("vault.mp4"))

The errors that its methods raise are here too. All of them are subclasses of `SefarError`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sefar_client import Caption as Caption
    from sefar_client import ChatCompletion as ChatCompletion
    from sefar_client import Classification as Classification
    from sefar_client import Embedding as Embedding
    from sefar_client import Failure as Failure
    from sefar_serve.clip import ClipError as ClipError
    from sefar_serve.clip import ClipLimitError as ClipLimitError
    from sefar_serve.clip import ClipSpanError as ClipSpanError
    from sefar_serve.clip import EmptyVideoError as EmptyVideoError
    from sefar_serve.clip import NotAVideoError as NotAVideoError
    from sefar_serve.clip import NoVideoStreamError as NoVideoStreamError
    from sefar_serve.clip import UndecodableVideoError as UndecodableVideoError
    from sefar_serve.engine import EngineError as EngineError
    from sefar_serve.engine import EngineOverloadedError as EngineOverloadedError
    from sefar_serve.engine import EngineTimeoutError as EngineTimeoutError
    from sefar_serve.engine import EngineUnavailableError as EngineUnavailableError
    from sefar_serve.engine import InferenceError as InferenceError
    from sefar_serve.engine import ModelLoadError as ModelLoadError
    from sefar_serve.engine import ModelNotFoundError as ModelNotFoundError
    from sefar_serve.errors import SefarError as SefarError
    from sefar_serve.fetch import UrlError as UrlError
    from sefar_serve.fetch import UrlFetchError as UrlFetchError
    from sefar_serve.fetch import UrlNotAllowedError as UrlNotAllowedError
    from sefar_serve.fetch import UrlTimeoutError as UrlTimeoutError
    from sefar_serve.language import AdapterMismatchError as AdapterMismatchError
    from sefar_serve.language import AdapterNotFoundError as AdapterNotFoundError
    from sefar_serve.language import FeatureMismatchError as FeatureMismatchError
    from sefar_serve.language import GenerationError as GenerationError
    from sefar_serve.language import GenerationFailedError as GenerationFailedError
    from sefar_serve.language import GeneratorOverloadedError as GeneratorOverloadedError
    from sefar_serve.language import GeneratorUnavailableError as GeneratorUnavailableError
    from sefar_serve.language import PromptError as PromptError
    from sefar_serve.language import PromptTooLongError as PromptTooLongError
    from sefar_serve.local.background import ModelClosedError as ModelClosedError
    from sefar_serve.model import Model as Model
    from sefar_serve.model import load as load
    from sefar_serve.settings import SettingsError as SettingsError

__version__ = "0.1.0"

_NAMES = {
    "sefar_client": (
        "Caption",
        "ChatCompletion",
        "Classification",
        "Embedding",
        "Failure",
    ),
    "sefar_serve.clip": (
        "ClipError",
        "ClipLimitError",
        "ClipSpanError",
        "EmptyVideoError",
        "NoVideoStreamError",
        "NotAVideoError",
        "UndecodableVideoError",
    ),
    "sefar_serve.engine": (
        "EngineError",
        "EngineOverloadedError",
        "EngineTimeoutError",
        "EngineUnavailableError",
        "InferenceError",
        "ModelLoadError",
        "ModelNotFoundError",
    ),
    "sefar_serve.errors": ("SefarError",),
    "sefar_serve.fetch": (
        "UrlError",
        "UrlFetchError",
        "UrlNotAllowedError",
        "UrlTimeoutError",
    ),
    "sefar_serve.language": (
        "AdapterMismatchError",
        "AdapterNotFoundError",
        "FeatureMismatchError",
        "GenerationError",
        "GenerationFailedError",
        "GeneratorOverloadedError",
        "GeneratorUnavailableError",
        "PromptError",
        "PromptTooLongError",
    ),
    "sefar_serve.local.background": ("ModelClosedError",),
    "sefar_serve.model": (
        "Model",
        "load",
    ),
    "sefar_serve.settings": ("SettingsError",),
}
"""The public names by their modules, which are imported on first use, so that `import sefar_serve` is fast."""

_HOMES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
