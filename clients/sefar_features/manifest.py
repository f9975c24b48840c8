"""The manifest of a folder of features, checked against what this reader supports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .errors import FeaturesError

FORMAT = 1
"""Version of the layout that this reader supports."""

VECTOR_FORMATS = ("parquet", "npy", "webdataset")
"""Formats in which vectors may be stored."""

_NEEDED: dict[str, dict[str, type]] = {
    "model": {"name": str, "version": str, "embedding_dim": int, "elements": int, "token_dim": int},
    "settings": {"format": str, "tokens": bool},
}


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a folder and check the fields that this reader needs.

    Raises:
        FeaturesError: it is missing, damaged, or from a newer sefar-serve.
    """
    file = folder / "_manifest.json"
    if not file.is_file():
        raise FeaturesError(
            f"{folder} has no features (no {file.name}); extract them with `sefar extract … --out {folder}`"
        )
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _damaged(file, str(error)) from error
    except OSError as error:
        raise FeaturesError(f"{file} cannot be read ({error}); get permission to read it") from error
    if not isinstance(manifest, dict):
        raise _damaged(file, "it is not a JSON object")
    number = manifest.get("format")
    if not isinstance(number, int):
        raise _damaged(file, "`format` is missing or not a number")
    if number != FORMAT:
        raise FeaturesError(
            f"{folder} has format {number}, but this reader supports {FORMAT}; install a newer sefar-serve"
        )
    if not isinstance(manifest.get("complete"), bool):
        raise _damaged(file, "`complete` is missing or not a boolean")
    for part, fields in _NEEDED.items():
        for name, kind in fields.items():
            if not isinstance(manifest.get(part), dict) or not isinstance(manifest[part].get(name), kind):
                raise _damaged(file, f"`{part}.{name}` is missing or has the wrong type")
    vectors = manifest["settings"]["format"]
    if vectors not in VECTOR_FORMATS:
        raise FeaturesError(
            f"{folder} stores vectors as {vectors!r}, but this reader supports {', '.join(VECTOR_FORMATS)}; "
            "install a newer sefar-serve"
        )
    return manifest


def _damaged(file: Path, why: str) -> FeaturesError:
    return FeaturesError(f"{file} is damaged ({why}); copy it again, or extract the features into another folder")
