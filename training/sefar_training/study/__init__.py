"""Studies: compare variants of a recipe over several seeds, and report on one page."""

from .plan import Study, StudyError, StudyRun, find_study, load_study
from .report import write_study
from .run import run_study

__all__ = ["Study", "StudyError", "StudyRun", "find_study", "load_study", "run_study", "write_study"]
