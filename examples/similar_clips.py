"""Finds the clips most similar to one: `python examples/similar_clips.py [FEATURES [ID]]`.

With `--graph` a graph of all clips is built first, unless there is one. That takes minutes, and pays off for many
queries to a large folder.
"""

from __future__ import annotations

import argparse

from made_features import features_from
from rich.progress import Progress

from sefar_features import FeaturesError

options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
options.add_argument("features", nargs="?", help="output folder of `sefar extract` (default: clips rendered for it)")
options.add_argument("id", nargs="?", help="id of a clip (default: the middle one)")
options.add_argument("--graph", action="store_true", help="build a graph of the clips first")
arguments = options.parse_args()

features = features_from(arguments.features)
try:
    print(features)
    if not len(features):
        raise SystemExit(f"{features.folder} has no good clips; `.failures()` of the features says why")
    query = arguments.id or features.ids[len(features) // 2]
    if arguments.graph:
        with Progress() as progress:
            clips = progress.add_task("clips in the graph", total=len(features))
            features.build_index(lambda done, _: progress.update(clips, completed=done))
    matches = features.similar(query, k=5)
    label = features.table(["labels"])["labels"][features.ids.index(query)].as_py()[0]
except FeaturesError as error:
    raise SystemExit(str(error)) from error
print(f"\nlike {query} ({label}):")
for match in matches:
    print(f"  {match.score:.3f}  {match.id}  {match.label}")
