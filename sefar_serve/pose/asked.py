"""What may be asked of a model, by what it sees: its joints, or that it sees nothing else."""

from __future__ import annotations

from sefar_serve.metadata import ModelMetadata
from sefar_serve.pose.errors import NoJointsError, NotAnonymousError

_SEES = {"rgb": "pictures", "both": "pictures and joints"}


def check_sees_joints(meta: ModelMetadata) -> None:
    """Check that a model has joints to give.

    Raises:
        NoJointsError: it sees none.
    """
    if not meta.sees_joints:
        raise NoJointsError(
            f"the model {meta.name} sees no joints; leave out `poses`, or use a model whose `stream` is pose or both"
        )


def check_sees_only_joints(meta: ModelMetadata) -> None:
    """Check that a model may run where nothing but joints is kept.

    Raises:
        NotAnonymousError: it sees pictures.
    """
    if meta.sees_frames:
        raise NotAnonymousError(
            f"anonymous: only models that see nothing but joints may run, and the model {meta.name} sees "
            f"{_SEES[meta.stream]}; use a model whose `stream` is pose (`sefar info` shows it), or turn `anonymous` off"
        )
