"""What the Hugging Face hub's client keeps of what it fetched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

SHA = "0" * 40


def in_hub_cache(cache: Path, name: str, files: Mapping[str, bytes]) -> None:
    """Lay files out as the hub's client keeps what it fetched."""
    model = cache / f"models--{name.replace('/', '--')}"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text(SHA)
    for file, content in files.items():
        path = model / "snapshots" / SHA / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
