"""From a prepared collection of a user's videos to a model: candidates, comparison, choice, training, report."""

from .candidates import CANDIDATES, check_changes
from .choose import NothingToTryError
from .run import Made, Options, RunExistsError, check_run, run_own
from .trial import Candidate, Choice, Judged, Trial

__all__ = [
    "CANDIDATES",
    "Candidate",
    "Choice",
    "Judged",
    "Made",
    "NothingToTryError",
    "Options",
    "RunExistsError",
    "Trial",
    "check_changes",
    "check_run",
    "run_own",
]
