"""The models of a Triton server, as the gateway sees them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from tritonclient.grpc import model_config_pb2 as pb
from tritonclient.utils import np_to_triton_dtype

from sefar_serve.engine.base import Inputs, Prediction, check_inputs
from sefar_serve.engine.errors import ModelLoadError
from sefar_serve.metadata import PREFIX, MetadataError, ModelMetadata

Infer = Callable[["TritonModel", Inputs], Awaitable[Prediction]]


class TritonModel:
    """One model of a Triton server, or one version of it. See `sefar_serve.engine.base.Model`.

    Args:
        infer: runs one inference.

    Attributes:
        served: Triton's name of the model.
        metadata: its description; the version is the newest that is ready, or the one it is bound to.
        versions: versions that are ready, newest first.
        bound: whether requests must go to this version.
    """

    def __init__(
        self,
        infer: Infer,
        served: str,
        metadata: ModelMetadata,
        versions: tuple[str, ...],
        bound: bool = False,
    ) -> None:
        self._infer = infer
        self.served = served
        self.metadata = metadata
        self.versions = versions
        self.bound = bound

    async def infer(self, inputs: Inputs) -> Prediction:
        """Run the model on one clip; see `Model.infer`."""
        check_inputs(inputs, self.metadata)
        return await self._infer(self, inputs)

    def at(self, version: str) -> TritonModel:
        """This model bound to one version."""
        metadata = self.metadata.model_copy(update={"version": version})
        return TritonModel(self._infer, self.served, metadata, (version,), bound=True)


def sent_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in which Triton sends a tensor, without the batch axis: a number is sent as a vector of 1."""
    return shape or (1,)


def data_type(dtype: np.dtype[Any]) -> int:
    """Triton's number for a dtype, e.g. ``TYPE_UINT8``."""
    return int(pb.DataType.Value(f"TYPE_{np_to_triton_dtype(dtype)}"))


def described(config: pb.ModelConfig, required: bool) -> ModelMetadata | None:
    """The description in a model's configuration; None if it has none and is not required.

    Args:
        config: as returned by the server.
        required: whether the model was requested by name.

    Raises:
        ModelLoadError: a required model is not a SeFAR model, or the tensors contradict the description.
    """
    props = {key: parameter.string_value for key, parameter in config.parameters.items()}
    ours = any(key.startswith(PREFIX) for key in props)
    if not ours and not required:
        return None
    source = f"the Triton model {config.name!r}"
    try:
        metadata = ModelMetadata.from_props(props | ({f"{PREFIX}version": '"0"'} if ours else {}), source)
    except MetadataError as error:
        raise ModelLoadError(f"{error}; for Triton, add --repository") from error
    expected = {name: (data_type(dtype), sent_shape(shape)) for name, (dtype, shape) in metadata.tensors.items()}
    found = {t.name: (t.data_type, tuple(t.dims)) for t in (*config.input, *config.output)}
    for name, (kind, shape) in expected.items():
        if found.get(name) != (kind, shape):
            what = "is missing" if name not in found else f"is {pb.DataType.Name(found[name][0])} {found[name][1]}"
            raise ModelLoadError(
                f"{source}: tensor {name!r} {what}, but its description says {pb.DataType.Name(kind)} {shape}; "
                "write the configuration again with `sefar export --repository`"
            )
    return metadata
