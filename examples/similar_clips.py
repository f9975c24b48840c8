"""The clips most like one: `python examples/similar_clips.py [FEATURES [ID]]`."""

from __future__ import annotations

import sys

from made_features import features_from

features = features_from(sys.argv[1:2])
print(features)
query = sys.argv[2] if len(sys.argv) > 2 else features.ids[len(features) // 2]
label = features.table(["labels"])["labels"][features.ids.index(query)].as_py()[0]
print(f"\nlike {query} ({label}):")
for match in features.similar(query, k=5):
    print(f"  {match.score:.3f}  {match.id}  {match.label}")
