from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sefar_serve.reliability import reliability
from sefar_training.model import FusionHead
from sefar_training.semisupervised import class_thresholds, monte_carlo, pseudo_labels, regulation


@pytest.mark.parametrize(
    ("mean", "deviation", "eta"),
    [
        (1.0, 0.0, 1.0),
        # 2/(1 + e^(e − e^0.5)) = 2/(1 + e^1.069561) = 0.510973; 2/(1 + e^−0.5) − 1 = 0.244919
        (0.5, 0.1, 0.510973 * 0.244919),
        # 2/(1 + e^(e − e^0.9)) = 2/(1 + e^0.258679) = 0.871377; 2/(1 + e^−5) − 1 = 0.986614
        (0.9, 0.01, 0.871377 * 0.986614),
        # 2/(1 + e^(e − e^0.1)) = 2/(1 + e^1.613111) = 0.332314; 2/(1 + e^−0.1) − 1 = 0.049958
        (0.1, 0.5, 0.332314 * 0.049958),
    ],
)
def test_regulation_by_hand(mean: float, deviation: float, eta: float) -> None:
    assert regulation(torch.tensor([mean]), torch.tensor([deviation])).item() == pytest.approx(eta, abs=2e-6)


def test_regulation_falls_with_doubt_and_with_spread() -> None:
    means = torch.linspace(0, 1, 21)
    assert (regulation(means, torch.full((21,), 0.1)).diff() > 0).all()
    assert (regulation(torch.full((20,), 0.8), torch.linspace(0.02, 0.5, 20)).diff() < 0).all()


def test_pseudo_label_is_the_best_class_of_the_mean_not_of_most_samples() -> None:
    samples = torch.tensor([[[0.55, 0.45, 0.0], [0.55, 0.45, 0.0], [0.0, 1.0, 0.0]]])
    answer = pseudo_labels(samples)
    assert answer.label.tolist() == [1]
    assert answer.mean.item() == pytest.approx(1.9 / 3)
    assert answer.deviation.item() == pytest.approx(np.std([0.45, 0.45, 1.0]))
    assert torch.allclose(answer.probabilities, samples.mean(dim=1))


def test_training_and_serving_agree_on_the_same_samples() -> None:
    logits = 3 * torch.randn(6, 10, 5, generator=torch.Generator().manual_seed(0))
    answer = pseudo_labels(logits.softmax(dim=-1))
    served = [reliability(clip) for clip in logits.numpy()]
    assert regulation(answer.mean, answer.deviation).numpy() == pytest.approx(np.array(served), abs=1e-5)


def test_monte_carlo_has_the_distribution_of_whole_teacher_passes() -> None:
    torch.manual_seed(0)
    head = FusionHead(3, 24, 5).train()
    tokens = torch.randn(2, 3, 24)
    fast = monte_carlo(head, tokens, 4000)
    whole = torch.stack([head(tokens)[1].softmax(dim=-1) for _ in range(4000)], dim=1)
    assert fast.shape == (2, 4000, 5)
    assert torch.allclose(fast.mean(dim=1), whole.mean(dim=1), atol=0.01)
    assert torch.allclose(fast.std(dim=1), whole.std(dim=1), atol=0.01)


def test_monte_carlo_samples_differ_in_eval_mode_and_agree_without_dropout() -> None:
    torch.manual_seed(0)
    tokens = torch.randn(2, 3, 24)
    assert monte_carlo(FusionHead(3, 24, 5).eval(), tokens, 8).std(dim=1).min() > 0
    assert monte_carlo(FusionHead(3, 24, 5, dropout=0.0), tokens, 8).std(dim=1).max() == 0


def test_class_thresholds_by_hand() -> None:
    # FlexMatch: β = 1, 0.5, 0, and 0.9·β/(2 − β).
    found = class_thresholds(torch.tensor([40.0, 20.0, 0.0]), unseen=10, threshold=0.9)
    assert found.tolist() == pytest.approx([0.9, 0.3, 0.0])
    # Early on most clips are unseen, which keeps all thresholds low.
    early = class_thresholds(torch.tensor([10.0, 5.0, 0.0]), unseen=100, threshold=0.9)
    assert early.tolist() == pytest.approx([0.9 * 0.1 / 1.9, 0.9 * 0.05 / 1.95, 0.0])
    assert math.isfinite(class_thresholds(torch.zeros(3), unseen=0, threshold=0.9).sum().item())
