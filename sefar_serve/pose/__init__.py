"""Frames → persons → joints.

`load_poses` decodes a video and gives its `Poses`. What finds persons and joints is an `Estimator`;
`LiteRTEstimator` (in `sefar_serve.pose.litert`, extra ``pose``) runs MediaPipe's models.
"""

from sefar_serve.pose.asked import check_sees_joints, check_sees_only_joints
from sefar_serve.pose.draw import draw_skeleton, pose_sheet
from sefar_serve.pose.errors import (
    NoJointsError,
    NotAnonymousError,
    PoseError,
    PoseMismatchError,
    PoseSetupError,
)
from sefar_serve.pose.estimator import Detection, Estimator, Landmarks
from sefar_serve.pose.estimators import Estimators, make_estimator
from sefar_serve.pose.joints import EDGES, JOINTS, MIRROR, PAIRS
from sefar_serve.pose.load import PoseClip, load_poses
from sefar_serve.pose.poses import Poses
from sefar_serve.pose.region import Picture, Region
from sefar_serve.pose.tracker import Tracker

__all__ = [
    "EDGES",
    "JOINTS",
    "MIRROR",
    "PAIRS",
    "Detection",
    "Estimator",
    "Estimators",
    "Landmarks",
    "NoJointsError",
    "NotAnonymousError",
    "Picture",
    "PoseClip",
    "PoseError",
    "PoseMismatchError",
    "PoseSetupError",
    "Poses",
    "Region",
    "Tracker",
    "check_sees_joints",
    "check_sees_only_joints",
    "draw_skeleton",
    "load_poses",
    "make_estimator",
    "pose_sheet",
]
