"""Plots features in two dimensions (PCA): `python examples/feature_map.py [FEATURES]` writes a PNG."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from made_features import features_from
from sklearn.decomposition import PCA

SHOWN = 8
"""Number of classes with their own colour; more are hard to tell apart."""

features = features_from(sys.argv[1] if len(sys.argv) > 1 else None)
if len(features) < 2:
    raise SystemExit(f"{features.folder} has fewer than two good clips; a map needs at least two")
labels = np.array([found[0] for found in features.table(["labels"])["labels"].to_pylist()])
model = PCA(2, random_state=0)
points = model.fit_transform(features.embeddings())

names, counts = np.unique(labels, return_counts=True)
shown = names[np.argsort(-counts, kind="stable")][:SHOWN]
figure, axes = plt.subplots(figsize=(11, 6), layout="constrained")
others = ~np.isin(labels, shown)
if others.any():
    axes.scatter(*points[others].T, s=12, color="0.8", label=f"{len(names) - len(shown)} other classes")
for number, name in enumerate(shown):
    axes.scatter(*points[labels == name].T, s=28, color=plt.get_cmap("Dark2")(number), label=name)
x, y = 100 * model.explained_variance_ratio_
axes.set(xlabel=f"first component, {x:.0f} % of the variance", ylabel=f"second component, {y:.0f} %")
axes.set_title(f"{len(features)} clips by what the model sees in them")
figure.legend(loc="outside right upper", title="label", fontsize="small")
out = Path("demo/feature_map.png")
out.parent.mkdir(exist_ok=True)
figure.savefig(out, dpi=110)
print(f"\n{out}")
