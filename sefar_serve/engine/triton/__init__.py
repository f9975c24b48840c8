"""The remote engine: models of an NVIDIA Triton server, over gRPC or shared memory."""

from sefar_serve.engine.triton.engine import TritonEngine, TritonOptions

__all__ = ["TritonEngine", "TritonOptions"]
