"""What all results have in common: frozen, arrays instead of lists, and a repr of one line."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, PlainSerializer, PlainValidator


def decoded(value: Any) -> NDArray[np.float32]:
    """Floats, or base64 of little-endian float32."""
    if isinstance(value, str):
        return np.frombuffer(base64.b64decode(value), "<f4").astype(np.float32)
    return np.asarray(value, np.float32)


def _vector(value: Any) -> NDArray[np.float32] | None:
    return None if value is None else decoded(value)


def _vectors(value: Any) -> NDArray[np.float32] | None:
    return None if value is None else np.stack([decoded(row) for row in value])


def lists(value: NDArray[np.float32] | None) -> list[Any] | None:
    """Nested lists of numbers, for JSON."""
    return None if value is None else value.tolist()


Vector = Annotated[NDArray[np.float32] | None, PlainValidator(_vector), PlainSerializer(lists)]
"""(D,) float32; None if not requested."""
Vectors = Annotated[NDArray[np.float32] | None, PlainValidator(_vectors), PlainSerializer(lists)]
"""(T, D) float32; None if not requested."""


class Result(BaseModel):
    """Base of all answers. `model_dump(mode="json")` gives the JSON; unknown fields of newer gateways are kept."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    def __eq__(self, other: object) -> bool:
        # Comparing arrays does not give one bool; the dump has lists instead.
        return type(self) is type(other) and isinstance(other, Result) and self.model_dump() == other.model_dump()

    def __hash__(self) -> int:
        # With `__hash__ = None`, pydantic would generate one, which fails on arrays, lists and dictionaries.
        raise TypeError(f"unhashable type: {type(self).__name__!r}")

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        # Short, because results are printed in lists; `model_dump` gives everything.
        for name, value in self._shown().items():
            match value:
                case np.ndarray():
                    yield name, Shown(f"<{value.dtype} {value.shape}>")
                case float():
                    yield name, round(value, 3)
                case [_, _, _, _, *_]:
                    yield name, Shown(f"<{len(value)} items>")
                case _:
                    yield name, value

    def _shown(self) -> dict[str, Any]:
        """What the repr shows: all fields, or those that an answer is made for."""
        return {name: value for name, value in super().__repr_args__() if name is not None}


class Shown:
    """Stands for a long value in the repr of a result."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def present(**shown: Any) -> dict[str, Any]:
    """The values that are not None."""
    return {name: value for name, value in shown.items() if value is not None}
