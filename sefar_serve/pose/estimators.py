"""The estimator that a model asks for: loaded at first use, and the same weights that the model was trained with."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from sefar_serve.metadata import ModelMetadata
from sefar_serve.optional import needs_extra
from sefar_serve.pose.asked import check_sees_only_joints
from sefar_serve.pose.errors import PoseMismatchError, PoseSetupError
from sefar_serve.pose.estimator import Estimator
from sefar_serve.pose.joints import JOINTS

TRUE = "true:"
"""Begins the name of what gave true joints, e.g. a renderer, where a description has the name of an estimator."""

SHOWN = 12
"""Characters of a SHA-256 in messages."""


def make_estimator(home: Path | None = None) -> Estimator:
    """MediaPipe's estimator; its models are downloaded at first use, with a bar on a terminal, unless `home` is given.

    Args:
        home: folder that holds the models; None: that in SEFAR_POSE_HOME, or else in the user's cache.

    Raises:
        PoseSetupError: the models cannot be had.
        ModuleNotFoundError: the extra `pose` is not installed; the message says how to.
    """
    with needs_extra("pose"):
        from sefar_serve.pose.litert import LiteRTEstimator
    return LiteRTEstimator(home)


class Estimators:
    """Gives models their pose estimator. Thread-safe; a pickled copy loads its own.

    Args:
        make: makes the installed estimator; called once, when a model first needs it.
        anonymous: refuse models that see more than joints. Whoever reads a video asks here first, so none of its
            pictures leaves the code that looks for joints.
    """

    def __init__(self, make: Callable[[], Estimator] = make_estimator, *, anonymous: bool = False) -> None:
        self._make = make
        self._anonymous = anonymous
        self._lock = threading.Lock()
        self._loaded: Estimator | None = None

    def of(self, meta: ModelMetadata) -> Estimator | None:
        """The estimator for a model; None if it sees no joints.

        Raises:
            NotAnonymousError: the model sees pictures, and only joints are allowed.
            PoseMismatchError: the model was trained with another estimator, on other joints, or on true ones.
            PoseSetupError: the estimator is not installed, or its models are missing or damaged.
        """
        if self._anonymous:
            check_sees_only_joints(meta)
        if not meta.sees_joints:
            return None
        if meta.joints != JOINTS:
            raise PoseMismatchError(
                f"the model {meta.name} was trained on the joints {', '.join(meta.joints)}, but this version of "
                f"sefar-serve finds {', '.join(JOINTS)}; train and export the model again"
            )
        if meta.estimator.startswith(TRUE):
            raise PoseMismatchError(
                f"the model {meta.name} was trained on true joints ({meta.estimator.removeprefix(TRUE)}), and those of "
                "a video can only be estimated; train it on estimated joints, or export it with `sefar export "
                "--estimated-joints` to serve it on them all the same"
            )
        found = self._load()
        if (found.name, found.sha256) != (meta.estimator, meta.estimator_sha256):
            raise PoseMismatchError(
                f"the model {meta.name} was trained with the pose estimator {meta.estimator} (SHA-256 "
                f"{meta.estimator_sha256[:SHOWN]}…), but {found.name} (SHA-256 {found.sha256[:SHOWN]}…) is installed, "
                "and its joints differ; install the version of sefar-serve that the model was trained with, or train "
                "and export the model again"
            )
        return found

    def _load(self) -> Estimator:
        with self._lock:
            if self._loaded is None:
                try:
                    self._loaded = self._make()
                except ModuleNotFoundError as error:
                    raise PoseSetupError(f"the model needs a pose estimator: {error}") from error
            return self._loaded

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Estimators, anonymous=self._anonymous), (self._make,)
