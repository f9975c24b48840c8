"""Accuracy of a linear classifier on the embeddings with few labels: `python examples/linear_probe.py`.

Mean over five random splits: two clips of each class are labelled, the others are for testing.
"""

from __future__ import annotations

import sys

import numpy as np
from made_features import features_from, true_class
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

LABELS = 2
SPLITS = 5

if sys.argv[1:]:
    raise SystemExit("linear_probe.py takes no arguments: it needs clips of known classes, and renders them itself")
features = features_from(None)
embeddings = features.embeddings()
classes = np.array([true_class(clip) for clip in features.ids])
count = len(set(classes))

splits = StratifiedShuffleSplit(SPLITS, train_size=LABELS * count, random_state=0)
scores = []
for train, test in splits.split(embeddings, classes):
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    scores.append(100 * probe.fit(embeddings[train], classes[train]).score(embeddings[test], classes[test]))

# Student's t for four degrees of freedom; the splits share clips, so the interval is a little too narrow.
half = 2.776 * np.std(scores, ddof=1) / np.sqrt(SPLITS)
print(f"\n{count} classes, {LABELS} labels each, {len(features) - LABELS * count} test clips")
print(f"linear probe  {np.mean(scores):5.1f} % ± {half:.1f}")
print(f"chance        {100 / count:5.1f} %")
