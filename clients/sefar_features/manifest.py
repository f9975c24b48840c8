"""What a folder of features says of itself, held against what this reader knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .errors import FeaturesError

FORMAT = 1
"""Version of the layout that this reader knows."""

VECTOR_FORMATS = ("parquet", "npy", "webdataset")
"""Where vectors may be kept."""

_NEEDED: dict[str, dict[str, type]] = {
    "model": {"name": str, "version": str, "embedding_dim": int, "elements": int, "token_dim": int},
    "settings": {"format": str, "tokens": bool},
}


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder, with the fields that this reader needs.

    Raises:
        FeaturesError: there is none, it is damaged, or it is of a newer sefar-serve.
    """
    file = folder / "_manifest.json"
    if not file.is_file():
        raise FeaturesError(
            f"{folder} holds no features (no {file.name}); make them with `sefar extract … --out {folder}`"
        )
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _damaged(file, str(error)) from error
    except OSError as error:
        raise FeaturesError(f"{file} cannot be read ({error}); ask its owner for leave") from error
    if not isinstance(manifest, dict):
        raise _damaged(file, "it is no JSON object")
    number = manifest.get("format")
    if not isinstance(number, int):
        raise _damaged(file, "it has no number `format`")
    if number != FORMAT:
        raise FeaturesError(
            f"{folder} is of format {number} and this reader knows {FORMAT}; install a newer sefar-serve"
        )
    if not isinstance(manifest.get("complete"), bool):
        raise _damaged(file, "it does not say whether it is `complete`")
    for part, fields in _NEEDED.items():
        for name, kind in fields.items():
            if not isinstance(manifest.get(part), dict) or not isinstance(manifest[part].get(name), kind):
                raise _damaged(file, f"it has no `{part}.{name}`")
    vectors = manifest["settings"]["format"]
    if vectors not in VECTOR_FORMATS:
        raise FeaturesError(
            f"{folder} keeps its vectors as {vectors!r} and this reader knows {', '.join(VECTOR_FORMATS)}; "
            "install a newer sefar-serve"
        )
    return manifest


def _damaged(file: Path, why: str) -> FeaturesError:
    return FeaturesError(f"{file} is damaged ({why}); copy it again, or make the features anew in another folder")
