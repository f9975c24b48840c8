"""Opening files that others wrote, without ever running what may be inside them."""

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
"""First bytes of what `torch.save` writes: since torch 1.6, and before."""

_NUMPY_SCALAR = np.float64(0).__reduce__()[0]
HARMLESS_TYPES = [
    *((_NUMPY_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    np.dtype,
    *(type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int64)),
]
"""Numbers that optimiser states of other trainers hold, e.g. a learning rate computed by NumPy."""


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
"""What torch raises on damaged files, depending on which bytes are damaged."""


class ConversionError(SefarError, ValueError):
    """Weights cannot be converted; the message says what is wrong with which file."""


def read_weights_file(file: Path) -> Any:
    """Read a `.safetensors` file, or one that `torch.save` wrote, as tensors and plain values.

    Raises:
        ConversionError: if the file is missing, of another kind or damaged, or if it holds code, which is not run.
    """
    if not file.is_file():
        raise ConversionError(f"there is no file {file}")
    if file.suffix == ".safetensors":
        try:
            return load_file(file)
        except SafetensorError as error:
            raise ConversionError(f"{file} is damaged or no safetensors file: {error}") from error
    with file.open("rb") as opened:
        start = opened.read(max(map(len, TORCH_FILE_STARTS)))
    if not start.startswith(TORCH_FILE_STARTS):
        raise ConversionError(f"{file} is no checkpoint: neither torch.save nor safetensors wrote it")
    try:
        with torch.serialization.safe_globals(HARMLESS_TYPES), warnings.catch_warnings():
            # Torch warns of files that are old; they load nevertheless.
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        if named is None:
            raise ConversionError(f"{file} is damaged: torch cannot read it") from error
        raise ConversionError(
            f"{file} holds code ({named[1]}) beside its tensors, and was not opened. If you trust where it comes from, "
            "load it there with torch and save its tensors alone"
        ) from error
    except DAMAGE as error:
        why = str(error).partition("\n")[0].partition(". ")[0] or "it ends too early"
        raise ConversionError(f"{file} is damaged, or torch.save did not write it: {why}") from error


def state_dict_in(content: Any, keys: Sequence[str], file: Path) -> dict[str, Tensor]:
    """Find the tensors in what a file holds: under the first of `keys` that is there, or at the top.

    A prefix `module.`, left by distributed training, is taken off; half precision becomes float32.

    Raises:
        ConversionError: if there is no mapping of names to tensors.
    """
    state = content
    if isinstance(content, dict):
        state = next((content[key] for key in keys if key in content), content)
    if not isinstance(state, dict) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        where = " or ".join(["at the top", *(f"under {key}" for key in keys)])
        raise ConversionError(f"{file} is no checkpoint: it maps no names to tensors {where}")
    prefix = "module." if all(name.startswith("module.") for name in state) else ""
    return {k.removeprefix(prefix): v.float() if v.is_floating_point() else v for k, v in state.items()}


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ConversionError: if the file is missing or holds something else.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConversionError(f"there is no file {file}") from error
    except ValueError as error:
        raise ConversionError(f"{file} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ConversionError(f"{file} is no JSON object")
    return content
