"""Triton's config.pbtxt, written from what the ONNX file says of itself.

One file's facts, four ways of running it. NVIDIA's container has ONNX Runtime as a backend, on GPUs by
CUDA or TensorRT, or on the CPU; the server that comes with a Python wheel has the Python backend alone. The server
takes `config.pbtxt`, or `configs/NAME.pbtxt` when started with `--model-config-name=NAME`.
"""

from __future__ import annotations

from typing import Literal, get_args

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from sefar_serve.metadata import PREFIX, ModelMetadata

Flavour = Literal["cuda", "tensorrt", "cpu", "python"]
FLAVOURS: tuple[Flavour, ...] = get_args(Flavour)

VERSIONS_KEPT = 2
"""Newest versions served. With two, the old one goes on while its successor loads, and after that fails."""

_HEADER = "# Written by `sefar` from the model's own metadata; write it again rather than edit it.\n"
_BATCH: dict[Flavour, int] = {"cuda": 32, "tensorrt": 32, "cpu": 8, "python": 8}
_GPU = ("cuda", "tensorrt")
_INSTANCES: dict[Flavour, int] = {"cuda": 1, "tensorrt": 1, "cpu": 1, "python": 2}
"""One Python instance leaves cores idle between batches; a second one uses them (docs/explanation/benchmarks.md)."""


def interface(metadata: ModelMetadata) -> dict[str, str]:
    """What every version of one model has in common: all it says of itself but the version."""
    return {key: value for key, value in metadata.to_props().items() if key != f"{PREFIX}version"}


def model_config(metadata: ModelMetadata, name: str, flavour: Flavour) -> pb.ModelConfig:
    """Say how Triton is to serve a model.

    Args:
        metadata: of the model.
        name: Triton's name of it, which is its folder's.
        flavour: where it runs.
    """
    on_gpu = flavour in _GPU
    # A batch takes long on a CPU, and the next one gathers meanwhile; a GPU has to be kept busy.
    preferred = [size for size in (4, 8, 16, 32) if size <= _BATCH[flavour]]
    config = pb.ModelConfig(
        name=name,
        backend="python" if flavour == "python" else "onnxruntime",
        max_batch_size=_BATCH[flavour],
        input=[pb.ModelInput(name="frames", data_type=pb.TYPE_UINT8, dims=metadata.frames_shape)],
        output=[
            pb.ModelOutput(name=key, data_type=pb.TYPE_FP32, dims=shape)
            for key, shape in metadata.output_shapes.items()
        ],
        version_policy=pb.ModelVersionPolicy(latest=pb.ModelVersionPolicy.Latest(num_versions=VERSIONS_KEPT)),
        instance_group=[
            pb.ModelInstanceGroup(
                count=_INSTANCES[flavour],
                kind=pb.ModelInstanceGroup.KIND_GPU if on_gpu else pb.ModelInstanceGroup.KIND_CPU,
            )
        ],
        dynamic_batching=pb.ModelDynamicBatching(
            preferred_batch_size=preferred,
            max_queue_delay_microseconds=2000 if on_gpu else 1000,
            default_queue_policy=pb.ModelQueuePolicy(
                timeout_action=pb.ModelQueuePolicy.REJECT,
                allow_timeout_override=True,
                max_queue_size=256,
            ),
        ),
        # The first answer after a load must not pay for allocations, nor for building TensorRT's engine.
        model_warmup=[
            pb.ModelWarmup(
                name=f"{batch} black clips",
                batch_size=batch,
                inputs={
                    "frames": pb.ModelWarmup.Input(data_type=pb.TYPE_UINT8, dims=metadata.frames_shape, zero_data=True)
                },
            )
            for batch in (1, _BATCH[flavour])
        ],
        parameters={key: pb.ModelParameter(string_value=value) for key, value in interface(metadata).items()},
    )
    if flavour == "tensorrt":
        accelerator = config.optimization.execution_accelerators.gpu_execution_accelerator.add(name="tensorrt")
        accelerator.parameters.update(
            {
                "precision_mode": "FP16",
                "max_workspace_size_bytes": str(1 << 30),
                "trt_engine_cache_enable": "true",
                "trt_engine_cache_path": "/tmp/sefar-tensorrt",
            }
        )
    return config


def config_text(config: pb.ModelConfig) -> str:
    """The configuration as Triton reads it from a file."""
    return f"{_HEADER}{text_format.MessageToString(config, as_utf8=True)}"
