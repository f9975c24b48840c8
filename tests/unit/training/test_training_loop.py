from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from sefar_training.config import OptimConfig
from sefar_training.loop import EpochSampler, RunError, RunFolder, TrainingLoop, parameter_groups, schedule
from sefar_training.model import FrameNormalizer, SefarModel, create_model
from sefar_training.supervised import SupervisedStep

NORMALIZER = FrameNormalizer((0.45,) * 3, (0.225,) * 3)


class FixedClips(Dataset):
    """Random clips whose class is told by which half of the picture is bright."""

    def __init__(self, count: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.frames = torch.randint(0, 100, (count, 8, 32, 32, 3), dtype=torch.uint8, generator=generator)
        self.frames[::2, :, :16] += 100

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, object]:
        _, index = key
        return {"frames": self.frames[index], "label": 1 - index % 2, "index": index}


class CrashingStep:
    """A step that dies at the n-th call, as a machine might."""

    def __init__(self, step: SupervisedStep, at: int) -> None:
        self.step, self.left = step, at

    def __call__(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return self.step(batch)


def loop(model: SefarModel, folder: Path, *, crash_at: int = 10**9, resume: bool = False, **optim) -> TrainingLoop:
    settings = OptimConfig(**{"epochs": 4, "batch_size": 4, "lr": 2e-3, "warmup_epochs": 0.5} | optim)
    return TrainingLoop(
        model,
        CrashingStep(SupervisedStep(model, NORMALIZER), crash_at),
        FixedClips(12),
        settings,
        RunFolder(folder, settings.model_dump(mode="json")),
        seed=0,
        device=torch.device("cpu"),
        resume=resume,
        progress=False,
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_few_clips_are_learnt_by_heart(small_model, tmp_path: Path, precision: str) -> None:
    model = small_model()
    last = loop(model, tmp_path, epochs=15, precision=precision).run()
    assert last["loss"] < 0.2
    clips = FixedClips(12)
    predicted = model.eval()(NORMALIZER(clips.frames)).logits.argmax(1)
    assert predicted.tolist() == [1, 0] * 6


def test_crashed_and_resumed_run_ends_as_an_unbroken_one(small_model, tmp_path: Path) -> None:
    unbroken = small_model()
    loop(unbroken, tmp_path / "a").run()
    broken = small_model()
    with pytest.raises(KeyboardInterrupt):
        loop(broken, tmp_path / "b", crash_at=8).run()  # in the third epoch of three batches
    again = small_model()
    resumed = loop(again, tmp_path / "b", resume=True)
    assert resumed.epoch == 2
    resumed.run()
    for name, value in unbroken.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    a, b = (list(map(json.loads, (tmp_path / f / "log.jsonl").read_text().splitlines())) for f in "ab")
    assert [line["epoch"] for line in b] == [0, 1, 2, 3]
    assert [line["loss"] for line in a] == [line["loss"] for line in b]


def test_same_seed_same_weights(small_model, tmp_path: Path) -> None:
    ends = []
    for name in "ab":
        model = small_model()
        loop(model, tmp_path / name, epochs=2).run()
        ends.append(model.state_dict())
    assert all(torch.equal(ends[0][k], ends[1][k]) for k in ends[0])


def test_a_run_is_not_overwritten_nor_continued_by_another_recipe(small_model, tmp_path: Path) -> None:
    loop(small_model(), tmp_path, epochs=1).run()
    with pytest.raises(RunError, match="holds a run; set resume=true"):
        loop(small_model(), tmp_path, epochs=1)
    with pytest.raises(RunError, match="another recipe"):
        loop(small_model(), tmp_path, epochs=2, resume=True)


def test_finished_run_resumes_to_nothing(small_model, tmp_path: Path) -> None:
    loop(small_model(), tmp_path, epochs=1).run()
    model = small_model()
    finished = loop(model, tmp_path, epochs=1, resume=True, crash_at=0)
    finished.run()
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1


def test_diverged_loss_stops_the_run_by_name(small_model, tmp_path: Path) -> None:
    model = small_model()
    model.head.classifier.weight.data.fill_(float("nan"))
    with pytest.raises(RunError, match=r"loss became nan in epoch 1; try a lower optim\.lr"):
        loop(model, tmp_path).run()


def test_order_depends_on_seed_and_epoch_and_covers_every_clip() -> None:
    sampler = EpochSampler(range(50), seed=1)
    first, again = list(sampler), list(sampler)
    sampler.epoch = 1
    second = list(sampler)
    assert first == again
    assert sorted(i for _, i in second) == list(range(50))
    assert {e for e, _ in second} == {1}
    assert [i for _, i in first] != [i for _, i in second]
    assert first != list(EpochSampler(range(50), seed=2))


def test_learning_rate_rises_then_falls_to_its_end() -> None:
    optim = OptimConfig(epochs=10, warmup_epochs=2, final_lr=0.1)
    rates = [schedule(e / 10, optim) for e in range(101)]
    peak = rates.index(max(rates))
    assert peak == 20
    assert rates[peak] == pytest.approx(1)
    assert rates[-1] == pytest.approx(0.1)
    assert all(r > 0 for r in rates)
    assert rates[:21] == sorted(rates[:21])
    assert rates[20:] == sorted(rates[20:], reverse=True)


def test_biases_norms_and_embeddings_are_not_decayed() -> None:
    model = create_model("tiny", 3)
    decayed, free = parameter_groups(model, 0.1)
    names = {id(p): n for n, p in model.named_parameters()}
    assert all(names[id(p)].endswith("weight") and p.ndim > 1 for p in decayed["params"])
    assert {"backbone.cls_token", "backbone.time_embed.0", "head.fuse_norm.weight"} <= {
        names[id(p)] for p in free["params"]
    }
    assert len(decayed["params"]) + len(free["params"]) == len(names)
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
