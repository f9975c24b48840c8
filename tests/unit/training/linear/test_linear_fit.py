"""Logistic regression on principal components: exact where it claims to be, and fair to rare classes."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from sefar_training.linear import FitSettings, LinearFitError, choose_c, fit


def clouds(count: int, width: int, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    centres = np.random.default_rng(99).normal(size=(classes, width))
    return centres[labels] + rng.normal(size=(count, width)), labels


def test_the_components_of_few_clips_lose_nothing() -> None:
    features, labels = clouds(40, 600)
    fitted = fit(features, labels, FitSettings(c=3.0))
    centred = features - features.mean(axis=0)
    scale = np.sqrt((centred**2).sum(axis=1).mean())
    whole = LogisticRegression(C=3.0, class_weight="balanced", max_iter=5000, tol=1e-8).fit(centred / scale, labels)
    held, _ = clouds(20, 600, seed=1)
    expected = whole.predict_proba((held - features.mean(axis=0)) / scale)
    np.testing.assert_allclose(fitted.probabilities(held), expected, atol=2e-3)
    assert fitted.projection.shape == (256, 600)
    assert np.linalg.matrix_rank(fitted.projection) == 39
    # The rotation spreads the components: dropout of a few numbers takes about as much from every clip.
    share = (fitted.embed(features) ** 2).mean(axis=0)
    assert share.max() < 20 * share.mean()
    np.testing.assert_allclose(fitted.embed(features).mean(axis=0), 0, atol=1e-9)
    assert (fitted.embed(features) ** 2).sum(axis=1).mean() == pytest.approx(1)


def test_two_classes_and_absent_ones() -> None:
    features, labels = clouds(60, 10, classes=2)
    fitted = fit(features, np.where(labels == 1, 3, 0), FitSettings(), classes=5)
    logits = fitted.logits(features)
    assert logits.shape == (60, 5)
    assert (logits.argmax(axis=1) == np.where(labels == 1, 3, 0)).mean() > 0.9
    assert fitted.probabilities(features)[:, [1, 2, 4]].max() < 1e-6


def test_a_rare_class_counts_as_much() -> None:
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(0, 1, (200, 2)), rng.normal(1.5, 1, (10, 2))])
    labels = np.repeat([0, 1], [200, 10])
    held = np.concatenate([rng.normal(0, 1, (200, 2)), rng.normal(1.5, 1, (200, 2))])
    found = fit(features, labels, FitSettings()).logits(held).argmax(axis=1)
    assert (found[200:] == 1).mean() > 0.7


def test_views_of_a_clip_share_its_weight() -> None:
    features, labels = clouds(30, 8)
    once = fit(features, labels, FitSettings(c=2.0))
    thrice = fit(np.repeat(features[:, None], 3, axis=1), labels, FitSettings(c=2.0))
    np.testing.assert_allclose(once.logits(features), thrice.logits(features), atol=1e-3)


def test_stressed_motion_decides_where_places_differ() -> None:
    """Clips of 4 frames: the class is in how they change, the place in what they share."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    place = rng.normal(0, 3, (60, 1, 20))
    time = np.linspace(-1, 1, 4)[None, :, None] * np.where(labels == 0, -1, 1)[:, None, None]
    clips = place + 0.25 * time * np.ones(20) + rng.normal(0, 0.1, (60, 4, 20))
    features = clips.reshape(60, -1)
    plain, stressed = (fit(features[:16], labels[:16], FitSettings(1.0, 4, motion)) for motion in (1.0, 6.0))
    right = [(one.logits(features[16:]).argmax(axis=1) == labels[16:]).mean() for one in (plain, stressed)]
    assert right[1] > right[0]
    # The projection takes features as they are, so those of the training clips are still at 0 on average.
    np.testing.assert_allclose(stressed.embed(features[:16]).mean(axis=0), 0, atol=1e-9)


def test_c_is_chosen_by_folds_that_keep_groups_together() -> None:
    features, labels = clouds(60, 5)
    groups = np.arange(60) // 6
    assert choose_c(features, labels, FitSettings(), groups) in (1, 3, 10, 30, 100, 300)
    assert choose_c(features, labels, FitSettings(), grid=(7.0,)) == 7.0
    with pytest.raises(LinearFitError, match=r"a class has a single clip or group.*set linear\.c"):
        choose_c(features, labels, FitSettings(), np.zeros(60))
    with pytest.raises(LinearFitError, match="all 4 training clips have the same class"):
        fit(features[:4], np.zeros(4, np.int64), FitSettings())
    with pytest.raises(LinearFitError, match="features of all 60 training clips are the same"):
        fit(np.ones((60, 5)), labels, FitSettings())
