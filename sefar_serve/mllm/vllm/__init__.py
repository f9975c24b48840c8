"""Text from an external vLLM server, which takes clips as prompt embeddings. Needs torch for the projector."""

from sefar_serve.mllm.vllm.generator import VllmGenerator

__all__ = ["VllmGenerator"]
