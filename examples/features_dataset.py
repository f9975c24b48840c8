"""Features in a Hugging Face `datasets` pipeline: `python examples/features_dataset.py [FEATURES]`."""

from __future__ import annotations

import sys
from typing import Any

from datasets import load_dataset
from made_features import features_from

features = features_from(sys.argv[1] if len(sys.argv) > 1 else None)
if "embedding" not in features.columns:
    raise SystemExit(f"{features.folder} has no embeddings in its Parquet files; use sefar extract --format parquet")
clips = load_dataset("parquet", data_files=f"{features.folder}/part-*.parquet", split="train")


def first_label(clip: dict[str, Any]) -> dict[str, Any]:
    """Label and score of the best class, as columns."""
    return {"label": clip["labels"][0], "score": clip["scores"][0]}


sure = (
    clips.filter(lambda clip: clip["error_code"] is None and clip["reliability"] > 0.9)
    .map(first_label)
    .class_encode_column("label")
    .select_columns(["id", "label", "score", "embedding"])
    .train_test_split(test_size=0.25, seed=0)
)
print(f"\n{sure}")
first = sure["train"].with_format("numpy")[0]
label = sure["train"].features["label"].int2str(int(first["label"]))
print(f"{first['id']}: {label}, {float(first['score']):.2f}, embedding {first['embedding'].shape}")
