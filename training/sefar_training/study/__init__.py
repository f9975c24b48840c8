"""Studies: one recipe swept over variants and seeds, measured alike, and told in one page."""

from .plan import Run, Study, StudyError, find_study, load_study
from .report import write_study
from .sweep import run_study

__all__ = ["Run", "Study", "StudyError", "find_study", "load_study", "run_study", "write_study"]
