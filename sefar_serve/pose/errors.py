"""What can go wrong in pose estimation."""

from __future__ import annotations

from sefar_serve.errors import SefarError


class PoseError(SefarError):
    """Poses cannot be estimated."""

    status = 503
    code = "pose_unavailable"


class PoseSetupError(PoseError):
    """The pose models are missing, damaged, or cannot be downloaded."""

    code = "pose_setup"


class PoseMismatchError(PoseError):
    """A model was trained with another pose estimator than the installed one, or on other joints."""

    code = "pose_mismatch"


class NoJointsError(PoseError):
    """Joints were requested from a model that sees none."""

    status = 400
    param = "poses"
    code = "no_joints"


class NotAnonymousError(PoseError):
    """With the setting `anonymous`, a model sees more of a video than joints."""

    code = "not_anonymous"
