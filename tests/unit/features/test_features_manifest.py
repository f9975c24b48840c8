"""Folders without features, with a damaged manifest, or from a newer version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from feature_folders import write_features

from sefar_features import FeaturesError, open_features


def test_folders_without_features_are_named(tmp_path: Path) -> None:
    with pytest.raises(FeaturesError, match=r"has no features \(no _manifest\.json\); extract them with"):
        open_features(tmp_path)
    with pytest.raises(FeaturesError, match=r"nowhere has no features"):
        open_features(tmp_path / "nowhere")
    folder = write_features(tmp_path / "features")
    for shard in folder.glob("part-*"):
        shard.unlink()
    with pytest.raises(FeaturesError, match="has no shards yet"):
        open_features(folder)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "Expecting property name"),
        ("[]", "it is not a JSON object"),
        ("{}", "`format` is missing or not a number"),
        ('{"format": 1}', "`complete` is missing or not a boolean"),
        ('{"format": 1, "complete": true, "model": []}', "`model.name` is missing or has the wrong type"),
    ],
)
def test_a_damaged_manifest_is_named(tmp_path: Path, content: str, why: str) -> None:
    folder = write_features(tmp_path / "f")
    (folder / "_manifest.json").write_text(content)
    with pytest.raises(FeaturesError, match=rf"_manifest\.json is damaged \({why}.*; copy it again, or extract"):
        open_features(folder)


@pytest.mark.parametrize(("part", "field"), [("model", "embedding_dim"), ("model", "version"), ("settings", "tokens")])
def test_a_missing_field_is_named(tmp_path: Path, part: str, field: str) -> None:
    folder = write_features(tmp_path / "f")
    manifest = _manifest(folder)
    del manifest[part][field]
    (folder / "_manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(FeaturesError, match=f"`{part}.{field}` is missing"):
        open_features(folder)


def test_features_of_a_newer_version_are_rejected(tmp_path: Path) -> None:
    folder = write_features(tmp_path / "f")
    manifest = _manifest(folder)
    (folder / "_manifest.json").write_text(json.dumps(manifest | {"format": 2}))
    with pytest.raises(FeaturesError, match="has format 2, but this reader supports 1; install a newer sefar-serve"):
        open_features(folder)
    manifest["settings"]["format"] = "lance"
    (folder / "_manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(FeaturesError, match=r"stores vectors as 'lance', .*; install a newer sefar-serve"):
        open_features(folder)


def _manifest(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / "_manifest.json").read_text())
    return manifest
