"""Late fusion: one ONNX file from a model of frames and a model of joints."""

from .join import FusionError, Pair, check_fit
from .run import Figures, FusionReport, ListFigures, fuse, write_joined
from .weight import fuse_logits, try_weights

__all__ = [
    "Figures",
    "FusionError",
    "FusionReport",
    "ListFigures",
    "Pair",
    "check_fit",
    "fuse",
    "fuse_logits",
    "try_weights",
    "write_joined",
]
