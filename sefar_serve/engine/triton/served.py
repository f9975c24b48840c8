"""The models of a Triton server, as the gateway sees them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import model_config_pb2 as pb

from sefar_serve.engine.base import Prediction, check_frames
from sefar_serve.engine.errors import ModelLoadError
from sefar_serve.metadata import PREFIX, MetadataError, ModelMetadata

Infer = Callable[["TritonModel", NDArray[np.uint8]], Awaitable[Prediction]]


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

    async def infer(self, frames: NDArray[np.uint8]) -> Prediction:
        """Run the model on one clip; see `Model.infer`."""
        check_frames(frames, self.metadata)
        return await self._infer(self, frames)

    def at(self, version: str) -> TritonModel:
        """This model bound to one version."""
        metadata = self.metadata.model_copy(update={"version": version})
        return TritonModel(self._infer, self.served, metadata, (version,), bound=True)


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
    expected = {name: (pb.TYPE_FP32, shape) for name, shape in metadata.output_shapes.items()}
    expected["frames"] = (pb.TYPE_UINT8, metadata.frames_shape)
    found = {t.name: (t.data_type, tuple(t.dims)) for t in (*config.input, *config.output)}
    for name, (kind, shape) in expected.items():
        if found.get(name) != (kind, shape):
            what = "is missing" if name not in found else f"is {pb.DataType.Name(found[name][0])} {found[name][1]}"
            raise ModelLoadError(
                f"{source}: tensor {name!r} {what}, but its description says {pb.DataType.Name(kind)} {shape}; "
                "write the configuration again with `sefar export --repository`"
            )
    return metadata
