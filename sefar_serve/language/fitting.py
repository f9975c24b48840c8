"""Finds the encoder whose features a language model reads."""

from __future__ import annotations

from sefar_serve.engine import Engine, Model
from sefar_serve.language.errors import AdapterMismatchError
from sefar_serve.language.protocol import Generator


def encoder_of(generator: Generator, engine: Engine) -> Model:
    """The first model of an engine whose features a generator reads; the default model comes first.

    Raises:
        AdapterMismatchError: it cannot read the features of any of them.
        EngineUnavailableError: no model is loaded yet.
    """
    default = engine.model(None)
    refusal: AdapterMismatchError | None = None
    for model in (default, *engine.models):
        try:
            generator.fits(model.metadata)
        except AdapterMismatchError as error:
            refusal = refusal or error
        else:
            return model
    raise refusal or AdapterMismatchError("the captioner cannot read the features of any model that is served here")
