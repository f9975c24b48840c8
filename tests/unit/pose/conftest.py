"""Fixtures of the pose tests."""

from __future__ import annotations

import pytest

from sefar_serve.pose.fake import FakeEstimator


@pytest.fixture
def estimator() -> FakeEstimator:
    return FakeEstimator()
