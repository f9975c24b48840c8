"""Studies: one recipe swept over variants and seeds, measured alike, and reported on one page."""

from .plan import Study, StudyError, StudyRun, find_study, load_study
from .report import write_study
from .run import run_study

__all__ = ["Study", "StudyError", "StudyRun", "find_study", "load_study", "run_study", "write_study"]
