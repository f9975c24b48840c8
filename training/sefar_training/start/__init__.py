"""From a folder or table of a user's videos to a checked, grouped and split collection."""

from .grouping import Groups
from .look import ClipLook, FileFacts, cache_folder
from .prepare import LeftOut, Prepared, prepare
from .read import FORMATS, Collection, Format, read_collection
from .rows import CollectionError, Row, RowProblem
from .split import Folds, Splits
from .write import check_out, summary, write_prepared

__all__ = [
    "FORMATS",
    "ClipLook",
    "Collection",
    "CollectionError",
    "FileFacts",
    "Folds",
    "Format",
    "Groups",
    "LeftOut",
    "Prepared",
    "Row",
    "RowProblem",
    "Splits",
    "cache_folder",
    "check_out",
    "prepare",
    "read_collection",
    "summary",
    "write_prepared",
]
