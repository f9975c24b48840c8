"""The SeFAR model: a divided space-time transformer over temporal elements, and the fusion head."""

from .backbone import TimeSformer
from .head import EMBEDDING_DIM, FusionHead
from .sefar import (
    VARIANTS,
    Architecture,
    FrameNormalizer,
    SefarModel,
    SefarOutput,
    Variant,
    VariantName,
    create_model,
)

__all__ = [
    "EMBEDDING_DIM",
    "VARIANTS",
    "Architecture",
    "FrameNormalizer",
    "FusionHead",
    "SefarModel",
    "SefarOutput",
    "TimeSformer",
    "Variant",
    "VariantName",
    "create_model",
]
