"""Clips that a weight may be chosen on: neither model was trained on them, and they do not measure the result."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from ..checkpoint import read_info
from ..config import DataConfig
from ..data import ListEntry, ListFileError, read_list
from .join import FusionError

logger = logging.getLogger(__name__)


def check_lists(
    lists: Mapping[Path, Sequence[ListEntry]], val: Path, test: Path | None, models: Sequence[Path]
) -> None:
    """Check that no clip of `val` is in `test`, or was a labelled training clip of a model. Spans must not overlap.

    Training lists are those in the recipes of checkpoint folders. Exported files do not name theirs. If a list has been
    moved or deleted, a warning says so.

    Args:
        lists: the clips of `val` and, if given, of `test`.
        val: the list to choose the weight on.
        test: the list to measure the result on, or None.
        models: checkpoint folders or exported files.

    Raises:
        FusionError: lists share clips.
        CheckpointError: a folder is not a checkpoint.
    """
    chosen = lists[val]
    if test is not None:
        _refuse(chosen, lists[test], f"--val {val} and --test {test}", "use other clips for --test, or omit it")
    for model in models:
        if not model.is_dir():
            continue
        trained = _training_clips(model)
        if trained is None:
            logger.warning("the training list of %s is missing; make sure that it has no clips of --val", model)
        else:
            both = f"--val {val} and the training list of {model}"
            _refuse(chosen, trained, both, "choose the weight on clips that neither model was trained on")


def _refuse(chosen: Sequence[ListEntry], entries: Sequence[ListEntry], both: str, fix: str) -> None:
    taken: dict[Path, list[ListEntry]] = {}
    for entry in entries:
        taken.setdefault(entry.path.resolve(), []).append(entry)
    shared = {
        entry.clip: entry.name
        for entry in chosen
        if any(entry.overlaps(other) for other in taken.get(entry.path.resolve(), ()))
    }
    if shared:
        raise FusionError(f"{both} share {len(shared)} clips, e.g. {next(iter(shared.values()))}; {fix}")


def _training_clips(checkpoint: Path) -> list[ListEntry] | None:
    """The labelled clips that a checkpoint was trained on; None if it does not say, or the list is not there."""
    recipe = read_info(checkpoint).recipe
    if recipe is None:
        return None
    try:
        data = DataConfig.model_validate(recipe["data"])
        return read_list(data.root / data.train, data.root, data.remap)
    except (KeyError, ValidationError, FileNotFoundError, NotADirectoryError, ListFileError):
        return None
