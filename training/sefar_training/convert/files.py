"""Open untrusted weight files without running code that may be inside them."""

from __future__ import annotations

import json
import pickle
import re
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sefar_serve.errors import SefarError

TORCH_FILE_STARTS = (b"PK\x03\x04", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.")
"""First bytes of what `torch.save` writes, since torch 1.6 and before."""

_NUMPY_SCALAR = np.float64(0).__reduce__()[0]
HARMLESS_TYPES = [
    *((_NUMPY_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    np.dtype,
    *(type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int64)),
]
"""Types of numbers in optimiser states of other projects, e.g. a learning rate computed by NumPy."""


DAMAGE = (
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    struct.error,
)
"""What torch raises for damaged files, depending on which bytes are damaged."""


class ConversionError(SefarError, ValueError):
    """Weights cannot be converted; the message names the file and the problem."""


def read_weights_file(file: Path) -> Any:
    """Read a `.safetensors` file, or one that `torch.save` wrote, as tensors and plain values.

    Raises:
        ConversionError: the file is missing, damaged or of another kind, or contains code. Code is never run.
    """
    if not file.is_file():
        raise ConversionError(f"{file} does not exist")
    if file.suffix == ".safetensors":
        try:
            return load_file(file)
        except SafetensorError as error:
            raise ConversionError(f"{file} is damaged or not a safetensors file: {error}") from error
    with file.open("rb") as opened:
        start = opened.read(max(map(len, TORCH_FILE_STARTS)))
    if not start.startswith(TORCH_FILE_STARTS):
        raise ConversionError(f"{file} is not a checkpoint: it was written by neither torch.save nor safetensors")
    try:
        with torch.serialization.safe_globals(HARMLESS_TYPES), warnings.catch_warnings():
            # Torch warns about old files, which load all the same.
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        if named is None:
            raise ConversionError(f"{file} is damaged: torch cannot read it") from error
        raise ConversionError(
            f"{file} contains code ({named[1]}) and was not opened. If you trust its source, load it with torch and "
            "save only the tensors"
        ) from error
    except DAMAGE as error:
        why = str(error).partition("\n")[0].partition(". ")[0] or "unexpected end of file"
        raise ConversionError(f"{file} is damaged or was not written by torch.save: {why}") from error


def state_dict_in(content: Any, keys: Sequence[str], file: Path) -> dict[str, Tensor]:
    """Find the tensors in a file's content: under the first of `keys` that exists, or at the top level.

    The prefix `module.` of distributed training is removed, and half precision becomes float32.

    Raises:
        ConversionError: there is no mapping from names to tensors.
    """
    state = content
    if isinstance(content, dict):
        state = next((content[key] for key in keys if key in content), content)
    if not isinstance(state, dict) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        where = " or ".join(["at the top level", *(f"under {key}" for key in keys)])
        raise ConversionError(f"{file} is not a checkpoint: it has no mapping from names to tensors {where}")
    prefix = "module." if all(name.startswith("module.") for name in state) else ""
    return {k.removeprefix(prefix): v.float() if v.is_floating_point() else v for k, v in state.items()}


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ConversionError: the file is missing or not a JSON object.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConversionError(f"{file} does not exist") from error
    except ValueError as error:
        raise ConversionError(f"{file} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ConversionError(f"{file} is not a JSON object")
    return content
