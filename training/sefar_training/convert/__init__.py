"""Convert published weights to checkpoint folders, tensor by tensor and by name."""

from .convert import ConversionReport, convert
from .files import ConversionError
from .release import release_name
from .source import NamesError

__all__ = ["ConversionError", "ConversionReport", "NamesError", "convert", "release_name"]
