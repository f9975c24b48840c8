"""sefar-serve: fine-grained action recognition from few labels.

`load` loads a model to use from Python:

    import sefar_serve as sefar

    model = sefar.load()
    print(model.classify("vault.mp4"))
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
    from sefar_serve.errors import SefarError as SefarError
    from sefar_serve.model import Model as Model
    from sefar_serve.model import load as load

__version__ = "0.1.0"

_HOMES = {
    **dict.fromkeys(("Caption", "ChatCompletion", "Classification", "Embedding", "Failure"), "sefar_client"),
    "Model": "sefar_serve.model",
    "SefarError": "sefar_serve.errors",
    "load": "sefar_serve.model",
}
"""Imported on first use, so that `import sefar_serve` does not load the packages for decoding and inference."""

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
