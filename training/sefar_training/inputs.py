"""The files that a recipe names: its class table, its training clips, its evaluation clips."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .config import TrainConfig
from .data import ClassTable, DecodedClip, EvaluationClips, FrameStore, ListEntry, read_list
from .evaluation.run import check_files


def read_entries(config: TrainConfig, list_file: Path) -> list[ListEntry]:
    """Read one of the recipe's lists; only the unlabelled one may leave labels out."""
    data = config.data
    return read_list(data.root / list_file, data.root, data.remap, unlabelled=list_file == data.unlabel)


def read_classes(config: TrainConfig) -> ClassTable:
    """Read the recipe's class table, or number the classes where it names none, and check the lists against it."""
    data = config.data
    used = (data.train, data.unlabel if config.uses_unlabelled else None, data.val, data.test)
    lists = {file: read_entries(config, file) for file in used if file}
    if data.labels is None and data.classes is None:
        table = ClassTable.numbered(entry for entries in lists.values() for entry in entries)
    else:
        labels, classes = (data.root / file if file else None for file in (data.labels, data.classes))
        table = ClassTable.read(labels, classes)
    for file, entries in lists.items():
        table.check(entries, file)
    return table


def open_store(
    config: TrainConfig, list_file: Path, progress: bool, decoded: Mapping[Path, DecodedClip] | None = None
) -> FrameStore:
    """Read a list of training clips and share frames that are decoded already, or fill the cache."""
    data = config.data
    store = FrameStore(read_entries(config, list_file), config.scale[1], data.cache_gb, data.max_broken)
    if decoded is None:
        store.fill(progress)
    else:
        store.share(decoded)
    return store


def evaluation_clips(config: TrainConfig, list_file: Path) -> EvaluationClips:
    """Read a list for evaluation with the recipe's preprocessing.

    Raises:
        EvaluationError: clips are missing.
    """
    model = config.model
    entries = read_entries(config, list_file)
    check_files(entries, list_file)
    return EvaluationClips(entries, model.sampling, model.resize, model.size, config.data.cache_gb)
