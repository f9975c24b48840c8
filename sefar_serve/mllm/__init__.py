"""SeFAR features in a Hugging Face language model; importing this registers the classes with transformers.

This package needs torch and transformers; the rest of `sefar_serve` does not.
"""

from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor

from sefar_serve.mllm.config import SefarMLLMConfig
from sefar_serve.mllm.model import SefarForConditionalGeneration
from sefar_serve.mllm.processor import SefarProcessor
from sefar_serve.mllm.projector import SefarProjector

AutoConfig.register(SefarMLLMConfig.model_type, SefarMLLMConfig)
AutoModelForCausalLM.register(SefarMLLMConfig, SefarForConditionalGeneration)
AutoModelForImageTextToText.register(SefarMLLMConfig, SefarForConditionalGeneration)
AutoProcessor.register(SefarMLLMConfig, SefarProcessor)

__all__ = ["SefarForConditionalGeneration", "SefarMLLMConfig", "SefarProcessor", "SefarProjector"]
