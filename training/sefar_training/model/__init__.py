"""The SeFAR model: a divided space-time transformer over temporal elements, and the fusion head."""

from .backbone import TimeSformer
from .frozen import IMAGE_NETWORKS, BackboneName, FrameVectors, FrozenBackbone, ImageNetwork, LinearHead
from .head import EMBEDDING_DIM, FusionHead, Head
from .normalize import FrameNormalizer, PoseNormalizer, create_normalizer
from .sefar import (
    VARIANTS,
    Architecture,
    SefarModel,
    SefarOutput,
    Stream,
    Variant,
    VariantName,
    create_linear_model,
    create_model,
)
from .stem import Stem, create_stem

__all__ = [
    "EMBEDDING_DIM",
    "IMAGE_NETWORKS",
    "VARIANTS",
    "Architecture",
    "BackboneName",
    "FrameNormalizer",
    "FrameVectors",
    "FrozenBackbone",
    "FusionHead",
    "Head",
    "ImageNetwork",
    "LinearHead",
    "PoseNormalizer",
    "SefarModel",
    "SefarOutput",
    "Stem",
    "Stream",
    "TimeSformer",
    "Variant",
    "VariantName",
    "create_linear_model",
    "create_model",
    "create_normalizer",
    "create_stem",
]
