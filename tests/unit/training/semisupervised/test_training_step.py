from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from sefar_training.config import SemiConfig
from sefar_training.model import FrameNormalizer, SefarModel, create_model
from sefar_training.semisupervised import (
    RULES,
    ClassificationStep,
    capped_decay,
    class_thresholds,
    draw_mix,
    frame_order,
    mix_tokens,
    regulation,
)

NORMALIZER = FrameNormalizer((0.45,) * 3, (0.225,) * 3)
CLASSES = 5


def batch(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def frames(count: int) -> torch.Tensor:
        return torch.randint(0, 255, (count, 8, 32, 32, 3), dtype=torch.uint8, generator=generator)

    return {
        "inputs": frames(4),
        "label": torch.tensor([0, 1, 2, 3]),
        "weak": frames(6),
        "strong": frames(6),
        "clip": torch.tensor([9, 3, 5, 0, 1, 7]),
        "hidden_label": torch.tensor([0, 1, 2, 3, 4, -1]),
    }


def make(model: SefarModel, method: str, perturbation: str = "none", **changes: Any) -> ClassificationStep:
    settings = SemiConfig(**{"start_epoch": 2, "threshold": 0.0} | changes)
    return ClassificationStep(model, NORMALIZER, method, settings, perturbation, epochs=6, unlabelled=10)  # type: ignore[arg-type]


@pytest.fixture
def model(small_model) -> SefarModel:
    # Without dropout the parts of a loss can be computed again one by one.
    model = small_model(classes=CLASSES)
    model.head.dropout.p = 0.0
    return model.train()


@pytest.mark.parametrize("method", ["supervised", *RULES])
def test_before_start_epoch_the_loss_is_supervised(model: SefarModel, method: str) -> None:
    loss, metrics = make(model, method)(batch(), epoch=1)
    logits = model(NORMALIZER(batch()["inputs"])).logits
    assert loss.item() == pytest.approx(F.cross_entropy(logits, batch()["label"]).item(), rel=1e-5)
    assert set(metrics) == {"loss_sup", "accuracy"}


def test_supervised_ignores_unlabelled_clips(model: SefarModel) -> None:
    labelled = {key: batch()[key] for key in ("inputs", "label")}
    late, _ = make(model, "supervised")(labelled, epoch=5)
    early, _ = make(model, "supervised")(labelled, epoch=0)
    assert late.item() == early.item()


@pytest.mark.parametrize(("epoch", "xi"), [(2, 0.382683), (3, 0.707107), (5, 1.0)])
def test_fixmatch_by_hand(model: SefarModel, epoch: int, xi: float) -> None:
    given = batch()
    loss, metrics = make(model, "fixmatch", pseudo_weight=3.0)(given, epoch)
    weak, strong = (model(NORMALIZER(given[view])).logits for view in ("weak", "strong"))
    expected_un = F.cross_entropy(strong, weak.argmax(dim=1))
    expected = F.cross_entropy(model(NORMALIZER(given["inputs"])).logits, given["label"]) + xi * 3 * expected_un
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert metrics["weight"] == 1
    right = (weak.argmax(dim=1) == given["hidden_label"])[:5].float().mean()
    assert metrics["pseudo_right"] == right


def test_a_high_threshold_leaves_the_supervised_loss(model: SefarModel) -> None:
    loss, metrics = make(model, "fixmatch", threshold=1.0)(batch(), epoch=5)
    assert loss.item() == pytest.approx(metrics["loss_sup"].item())
    assert metrics["weight"] == 0
    assert "pseudo_right_weighted" not in metrics


def test_flexmatch_lowers_thresholds_of_classes_still_to_learn(model: SefarModel) -> None:
    given = batch()
    model.head.classifier.weight.data.mul_(5)  # clips differ in how sure the student is
    best, label = model(NORMALIZER(given["weak"])).logits.softmax(dim=1).max(dim=1)
    threshold = best.sort().values[3:5].mean().item()  # two of six are sure
    step = make(model, "flexmatch", threshold=threshold)
    earlier = (int(label[best.argmin()]) + 1) % CLASSES
    step.taken_for[:] = earlier  # what clips were taken for stays where the student is unsure
    sure = best >= threshold
    expected = step.taken_for.clone()
    expected[given["clip"]] = torch.where(sure, label, earlier)
    loss, metrics = step(given, epoch=5)
    assert torch.equal(step.taken_for, expected)
    limits = class_thresholds(torch.bincount(expected, minlength=CLASSES).float(), 0, threshold)
    weight = (best >= limits[label]).float()
    assert 2 < weight.sum() < 6, "lower thresholds let more pass than the fixed one, yet not all"
    assert metrics["weight"] == pytest.approx(weight.mean().item())
    strong = F.cross_entropy(model(NORMALIZER(given["strong"])).logits, label, reduction="none")
    assert (loss - metrics["loss_sup"]).item() == pytest.approx(2 * (weight * strong).mean().item(), rel=1e-4)


def test_mixing_loss_by_hand(model: SefarModel, monkeypatch: pytest.MonkeyPatch) -> None:
    given = batch()
    model.head.classifier.weight.data.mul_(5)
    mix = draw_mix(6, 3, 4, alpha=10.0)
    mix = mix._replace(other=torch.tensor([1, 2, 3, 4, 5, 0]))
    monkeypatch.setattr("sefar_training.semisupervised.step.draw_mix", lambda *_: mix)
    loss, metrics = make(model, "sefar", ramp=False, pseudo_weight=0.0, mix_weight=3.0)(given, epoch=5)
    model.eval()
    backbone = model.backbone
    cls, x = backbone.embed(NORMALIZER(given["strong"]))
    mixed = model.head(backbone.encode(cls, mix_tokens(x, mix, backbone.groups.element_of_frame)))[1].softmax(dim=1)
    taught = model(NORMALIZER(given["weak"])).logits.softmax(dim=1)
    eta = regulation(taught.max(dim=1).values, torch.zeros(6))
    total = 0.0
    for i, (j, share) in enumerate(zip(mix.other, mix.share, strict=True)):
        target = share * taught[i] + (1 - share) * taught[j]
        total += (share * eta[i] + (1 - share) * eta[j]) * (mixed[i] - target).square().sum()
    assert metrics["loss_mix"].item() == pytest.approx(total.item() / 6, rel=1e-4)
    assert (loss - metrics["loss_sup"]).item() == pytest.approx(3 * total.item() / 6, rel=1e-4)


@pytest.mark.parametrize("method", RULES)
def test_every_weight_gets_a_gradient_in_mixed_precision(model: SefarModel, method: str) -> None:
    step = make(model, method)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = step(batch(), epoch=5)
    loss.backward()
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without


def test_sefar_weighs_by_regulation_and_reverses_fine_elements(model: SefarModel) -> None:
    given = batch()
    step = make(model, "sefar", "moderate", mix_weight=0.0, ramp=False, pseudo_weight=1.0)
    loss, metrics = step(given, epoch=2)
    # Without dropout the ten samples are equal, so s = 0 and η = 2σ(e^m − e).
    best, label = model.eval()(NORMALIZER(given["weak"])).logits.softmax(dim=1).max(dim=1)
    weight = regulation(best, torch.zeros(6))
    strong = given["strong"][:, frame_order((2, 2, 4), "moderate")]
    losses = F.cross_entropy(model(NORMALIZER(strong)).logits, label, reduction="none")
    assert metrics["weight"].item() == pytest.approx(weight.mean().item(), rel=1e-5)
    assert (loss - metrics["loss_sup"]).item() == pytest.approx((weight * losses).mean().item(), rel=1e-4)
    plain = make(model, "sefar", "moderate", regulation=False)(given, epoch=2)[1]
    assert plain["weight"] == 1


@pytest.mark.parametrize(("method", "follows"), [("sefar", False), ("svformer", False), ("fixmatch", True)])
def test_which_model_labels_unlabelled_clips(model: SefarModel, method: str, follows: bool) -> None:
    given = batch()
    given["hidden_label"] = model.eval()(NORMALIZER(given["weak"])).logits.argmax(dim=1)
    step = make(model.train(), method)
    assert step(given, epoch=5)[1]["pseudo_right"] == 1
    with torch.no_grad():
        # The student now takes every clip for another class than it did.
        model.head.classifier.weight.copy_(-model.head.classifier.weight)
        model.head.classifier.bias.copy_(-model.head.classifier.bias)
    assert (step(given, epoch=5)[1]["pseudo_right"] < 1) == follows
    step.updated(1)
    assert step(given, epoch=5)[1]["pseudo_right"] < 1


def test_mixed_loss_is_zero_when_the_student_says_what_the_targets_say(model: SefarModel) -> None:
    # A model whose answer does not depend on the clip: every target is that answer too.
    torch.nn.init.zeros_(model.head.classifier.weight)
    _, metrics = make(model, "sefar")(batch(), epoch=5)
    assert metrics["loss_mix"].item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("method", RULES)
def test_gradients_reach_only_the_student(model: SefarModel, method: str) -> None:
    step = make(model, method, teacher_decay=0.5, teacher_warmup=False)
    before = copy.deepcopy(step.average.module.state_dict())
    optimizer = torch.optim.SGD([p for p in step.parameters() if p.requires_grad], lr=0.1)
    start = copy.deepcopy(model.state_dict())
    step(batch(), epoch=5)[0].backward()
    optimizer.step()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert all(p.grad is None for p in step.average.parameters())
    assert all(torch.equal(before[name], value) for name, value in step.average.module.state_dict().items())
    step.updated(2)
    step.updated(3)
    weight = "head.classifier.weight"
    expected = start[weight] + (1 - 0.25) * (model.state_dict()[weight] - start[weight])
    assert torch.allclose(step.average.module.state_dict()[weight], expected)


def test_teaching_leaves_batch_statistics_and_mode_as_they_were() -> None:
    model = create_model("tiny", CLASSES, size=32).train()
    step = make(model, "fixmatch")

    def statistics() -> torch.Tensor:
        return torch.cat([value.flatten() for name, value in model.state_dict().items() if "running" in name])

    before = statistics()
    step._pseudo_labels(batch(), RULES["fixmatch"])
    assert before.numel()
    assert torch.equal(before, statistics())
    assert model.training and not step.average.module.training


def test_without_warm_up_the_average_is_first_a_copy_then_slow(model: SefarModel) -> None:
    settings = SemiConfig(teacher_decay=0.9, teacher_warmup=False)
    step = ClassificationStep(model, NORMALIZER, "sefar", settings, "none", epochs=9, unlabelled=9, average_from=3)
    bias, average = model.head.classifier.bias, step.average.module.head.classifier.bias
    before = 0.0
    for n in range(1, 7):
        bias.data.fill_(n)
        step.updated(n)
        assert average[0].item() == pytest.approx(n if n <= 4 else 0.9 * before + 0.1 * n)
        before = average[0].item()


@pytest.mark.parametrize(("steps", "decay"), [(80_000, 0.9999), (5_325, 0.99914), (250, 0.98175), (0, 0.01)])
def test_a_short_run_lowers_the_decay(steps: int, decay: float) -> None:
    assert capped_decay(0.9999, steps) == pytest.approx(decay, abs=1e-5)
    assert capped_decay(0.5, max(steps, 100)) == 0.5


def test_the_average_of_a_short_run_forgets_the_weights_it_started_with(model: SefarModel) -> None:
    settings = SemiConfig(teacher_decay=0.9999, teacher_warmup=False)
    step = ClassificationStep(model, NORMALIZER, "sefar", settings, "none", 9, unlabelled=9, steps=60, average_from=10)
    bias, average = model.head.classifier.bias, step.average.module.head.classifier.bias
    for n in range(1, 61):
        bias.data.fill_(float(n > 11))
        step.updated(n)
    assert 0.98 < average[0].item() < 0.995


def test_state_contains_everything_that_training_changes(model: SefarModel) -> None:
    names = make(model, "flexmatch").state_dict()
    assert "taken_for" in names
    assert "student.head.classifier.weight" in names
    assert "average.module.head.classifier.weight" in names
