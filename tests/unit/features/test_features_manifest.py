"""Folders that are none, are damaged, or come from a newer version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from feature_folders import write_features

from sefar_features import FeaturesError, open_features


def test_folders_that_hold_no_features_are_named(tmp_path: Path) -> None:
    with pytest.raises(FeaturesError, match=r"holds no features \(no _manifest\.json\); make them with"):
        open_features(tmp_path)
    with pytest.raises(FeaturesError, match=r"nowhere holds no features"):
        open_features(tmp_path / "nowhere")
    folder = write_features(tmp_path / "features")
    for shard in folder.glob("part-*"):
        shard.unlink()
    with pytest.raises(FeaturesError, match="has no shard yet"):
        open_features(folder)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "Expecting property name"),
        ("[]", "it is no JSON object"),
        ("{}", "it has no number `format`"),
        ('{"format": 1}', "it does not say whether it is `complete`"),
        ('{"format": 1, "complete": true, "model": []}', "it has no `model.name`"),
    ],
)
def test_a_damaged_manifest_is_named(tmp_path: Path, content: str, why: str) -> None:
    folder = write_features(tmp_path / "f")
    (folder / "_manifest.json").write_text(content)
    with pytest.raises(FeaturesError, match=rf"_manifest\.json is damaged \({why}.*; copy it again, or make"):
        open_features(folder)


@pytest.mark.parametrize(("part", "field"), [("model", "embedding_dim"), ("model", "version"), ("settings", "tokens")])
def test_a_field_that_is_not_there_is_named(tmp_path: Path, part: str, field: str) -> None:
    folder = write_features(tmp_path / "f")
    manifest = _manifest(folder)
    del manifest[part][field]
    (folder / "_manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(FeaturesError, match=f"it has no `{part}.{field}`"):
        open_features(folder)


def test_features_of_a_newer_version_are_refused(tmp_path: Path) -> None:
    folder = write_features(tmp_path / "f")
    manifest = _manifest(folder)
    (folder / "_manifest.json").write_text(json.dumps(manifest | {"format": 2}))
    with pytest.raises(FeaturesError, match="is of format 2 and this reader knows 1; install a newer sefar-serve"):
        open_features(folder)
    manifest["settings"]["format"] = "lance"
    (folder / "_manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(FeaturesError, match=r"keeps its vectors as 'lance' .*; install a newer sefar-serve"):
        open_features(folder)


def _manifest(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / "_manifest.json").read_text())
    return manifest
