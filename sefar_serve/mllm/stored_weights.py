"""Reads single tensors of a model's safetensors, in a folder or on the hub, without reading the rest."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import cached_file

from sefar_serve.language.errors import AdapterMismatchError, AdapterNotFoundError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


class StoredWeights:
    """The tensors of a saved model, read one by one; a file on the hub is downloaded when one of its tensors is read.

    Args:
        source: folder or hub id.

    Attributes:
        source: folder or hub id.
        names: names of all tensors.

    Raises:
        AdapterNotFoundError: there are no safetensors files.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        index = self._file(INDEX)
        if index is not None:
            self._files: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        elif (whole := self._file(WEIGHTS)) is not None:
            with safe_open(whole, "pt") as stored:
                self._files = dict.fromkeys(stored.keys(), WEIGHTS)
        else:
            raise AdapterNotFoundError(
                f"{source} has no {WEIGHTS}, so its embedding table cannot be read; "
                "load the model with transformers and save it again with save_pretrained()"
            )

    @property
    def names(self) -> list[str]:
        """Names of the tensors."""
        return list(self._files)

    def __getitem__(self, name: str) -> Tensor:
        file = self._file(self._files[name])
        if file is None:
            raise AdapterNotFoundError(
                f"{self.source} has no file {self._files[name]}, although its index lists it; download the model again"
            )
        with safe_open(file, "pt") as stored:
            tensor: Tensor = stored.get_tensor(name)
        return tensor

    def embedding_table(self, model: PreTrainedModel) -> Tensor:
        """The embedding table, (V, hidden) in the dtype it is stored in.

        Args:
            model: a model of the class that these weights belong to; its own weights may be empty.

        Raises:
            AdapterNotFoundError: no tensor, or more than one, may be the embedding table.
            AdapterMismatchError: its width is not the one in the model's configuration.
        """
        empty = model.get_input_embeddings().weight
        name = next(key for key, value in model.named_parameters(remove_duplicate=False) if value is empty)
        # A checkpoint may have fewer or more prefixes than the class (GPT-2: wte.weight): compare the ends of names.
        ending = ".".join(name.split(".")[-2:])
        found = [name] if name in self._files else [key for key in self._files if f".{key}".endswith(f".{ending}")]
        if len(found) != 1:
            raise AdapterNotFoundError(
                f"{self.source}: {len(found)} tensors could be the embedding table {name}; save the model again with "
                "save_pretrained() of the installed transformers"
            )
        table = self[found[0]]
        if table.shape[1] != empty.shape[1]:
            raise AdapterMismatchError(
                f"{self.source}: the embedding table has width {table.shape[1]}, but its configuration says "
                f"{empty.shape[1]}; download the model again"
            )
        return table

    def _file(self, name: str) -> Path | None:
        found = cached_file(
            self.source,
            name,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        return None if found is None else Path(found)
