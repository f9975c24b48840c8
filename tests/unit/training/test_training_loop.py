from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from sefar_training.config import OptimConfig, SemiConfig
from sefar_training.data import Source
from sefar_training.loop import RunError, RunFolder, TrainingLoop, create_accelerator, parameter_groups, schedule
from sefar_training.model import FrameNormalizer, SefarModel, create_model
from sefar_training.semisupervised import ClassificationStep

NORMALIZER = FrameNormalizer((0.45,) * 3, (0.225,) * 3)


class FixedClips(Dataset):
    """Random clips whose class is told by which half of the picture is bright."""

    def __init__(self, count: int, *, unlabelled: bool = False) -> None:
        generator = torch.Generator().manual_seed(0)
        self.frames = torch.randint(0, 100, (count, 8, 32, 32, 3), dtype=torch.uint8, generator=generator)
        self.frames[::2, :, :16] += 100
        self.unlabelled = unlabelled

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, object]:
        _, index = key
        frames, label = self.frames[index], 1 - index % 2
        if self.unlabelled:
            return {"weak": frames, "strong": frames, "clip": index, "hidden_label": label}
        return {"inputs": frames, "label": label, "index": index}


class CrashingStep(ClassificationStep):
    """A step that dies at the n-th call, as a machine might."""

    left = 10**9

    def forward(self, batch: dict[str, Tensor], epoch: int) -> tuple[Tensor, dict[str, Tensor]]:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().forward(batch, epoch)


def loop(
    model: SefarModel,
    folder: Path,
    *,
    method: str = "supervised",
    crash_at: int = 10**9,
    resume: bool = False,
    checkpoint_steps: int | None = None,
    evaluate: Callable[[], dict[str, float]] | None = None,
    stoppable: bool = False,
    **optim: Any,
) -> TrainingLoop:
    settings = OptimConfig(**{"epochs": 4, "batch_size": 4, "lr": 2e-3, "warmup_epochs": 0.5} | optim)
    semi = SemiConfig(start_epoch=1, threshold=0.5, teacher_decay=0.9)
    step = CrashingStep(model, NORMALIZER, method, semi, "moderate", settings.epochs, 6)  # type: ignore[arg-type]
    step.left = crash_at
    sources = [Source(FixedClips(12), settings.batch_size)]
    if method != "supervised":
        sources.append(Source(FixedClips(6, unlabelled=True), 2))
    return TrainingLoop(
        step,
        sources,
        settings,
        RunFolder(folder, settings.model_dump(mode="json")),
        create_accelerator(settings),
        seed=0,
        resume=resume,
        checkpoint_steps=checkpoint_steps,
        evaluate=evaluate,
        stoppable=stoppable,
        progress=False,
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_few_clips_can_be_memorised(small_model, tmp_path: Path, precision: str) -> None:
    model = small_model()
    last = loop(model, tmp_path, epochs=15, precision=precision).run()
    assert last["loss"] < 0.2
    clips = FixedClips(12)
    predicted = model.eval()(NORMALIZER(clips.frames)).logits.argmax(1)
    assert predicted.tolist() == [1, 0] * 6


@pytest.mark.parametrize("method", ["supervised", "flexmatch", "sefar"])
@pytest.mark.parametrize(("checkpoint_steps", "first_step"), [(None, 0), (2, 2)])
def test_resumed_run_equals_an_uninterrupted_one(
    small_model, tmp_path: Path, method: str, checkpoint_steps: int | None, first_step: int
) -> None:
    unbroken = loop(small_model(), tmp_path / "a", method=method, steps_per_epoch=3)
    unbroken.run()
    with pytest.raises(KeyboardInterrupt):  # before the last of three steps of the third epoch
        broken = loop(
            small_model(),
            tmp_path / "b",
            method=method,
            steps_per_epoch=3,
            crash_at=8,
            checkpoint_steps=checkpoint_steps,
        )
        broken.run()
    resumed = loop(
        small_model(),
        tmp_path / "b",
        method=method,
        steps_per_epoch=3,
        resume=True,
        checkpoint_steps=checkpoint_steps,
    )
    assert (resumed.epoch, resumed._first_step) == (2, first_step)
    resumed.run()
    for name, value in unbroken.step.state_dict().items():
        assert torch.equal(value, resumed.step.state_dict()[name]), name
    a, b = (list(map(json.loads, (tmp_path / f / "log.jsonl").read_text().splitlines())) for f in "ab")
    assert [line["epoch"] for line in b] == [0, 1, 2, 3]
    assert [line["loss"] for line in a] == [line["loss"] for line in b]


class Judge:
    """Gives scripted figures, and remembers the weights that it saw."""

    def __init__(self, *figures: float) -> None:
        self.figures = figures
        self.seen: list[dict[str, torch.Tensor]] = []
        self.loop: TrainingLoop | None = None

    def __call__(self) -> dict[str, float]:
        assert self.loop is not None
        self.seen.append({name: value.clone() for name, value in self.loop.step.state_dict().items()})
        return {"top1": self.figures[len(self.seen) - 1]}


def watched(model: Any, folder: Path, judge: Judge, **options: Any) -> TrainingLoop:
    judge.loop = loop(model, folder, evaluate=judge, **options)
    return judge.loop


def test_without_a_better_epoch_training_stops_and_the_best_one_is_kept(small_model, tmp_path: Path) -> None:
    judge = Judge(0.2, 0.5, 0.5, 0.4, 0.4, 0.4)
    running = watched(small_model(), tmp_path, judge, epochs=6, patience=2)
    last = running.run()
    assert len(judge.seen) == 4
    assert (last["epoch"], last["top1"]) == (2, 0.5)  # of two that are as good, the one that trained longer
    assert all(torch.equal(value, judge.seen[2][name]) for name, value in running.step.state_dict().items())
    again = Judge(0.3, 0.4, 0.4, 0.4)
    assert watched(small_model(), tmp_path / "other", again, epochs=4, patience=3).run()["epoch"] == 3
    assert len(again.seen) == 4  # a run that ends has the weights of its last epoch


def test_a_resumed_run_remembers_its_best_epoch(small_model, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        watched(small_model(), tmp_path, Judge(0.5, 0.4), epochs=6, patience=2, crash_at=7).run()
    later = Judge(0.4, 0.4, 0.4)
    assert watched(small_model(), tmp_path, later, epochs=6, patience=2, resume=True).run()["epoch"] == 0
    assert len(later.seen) == 1


def test_ctrl_c_ends_a_stoppable_run_with_the_best_weights_so_far(small_model, tmp_path: Path) -> None:
    judge = Judge(0.5, 0.4, 0.4)
    running = watched(small_model(), tmp_path / "a", judge, patience=3, crash_at=7, stoppable=True)
    assert running.run()["epoch"] == 0
    assert all(torch.equal(value, judge.seen[0][name]) for name, value in running.step.state_dict().items())
    assert loop(small_model(), tmp_path / "b", crash_at=7, stoppable=True).run()["epoch"] == 1
    with pytest.raises(KeyboardInterrupt):
        loop(small_model(), tmp_path / "c", crash_at=2, stoppable=True).run()


def test_accumulated_batch_equals_one_step(small_model, tmp_path: Path) -> None:
    ends = []
    for parts in (1, 2, 4):
        model = small_model()
        model.head.dropout.p = 0.0
        loop(model, tmp_path / str(parts), epochs=1, accumulate=parts, precision="fp32").run()
        ends.append(model.state_dict())
    for end in ends[1:]:
        assert all(torch.allclose(ends[0][k], end[k], atol=1e-5) for k in end)


def test_tensorboard_gets_curves_of_steps_and_epochs(small_model, tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    settings = OptimConfig(epochs=2, batch_size=4)
    accelerator = create_accelerator(settings, ["tensorboard"], tmp_path)
    accelerator.init_trackers("curves")
    step = ClassificationStep(small_model(), NORMALIZER, "supervised", SemiConfig(), "none", 2, 1)
    sources = [Source(FixedClips(12), 4)]
    TrainingLoop(step, sources, settings, RunFolder(tmp_path, {}), accelerator, seed=0, progress=False).run()
    accelerator.end_training()
    events = event_accumulator.EventAccumulator(str(tmp_path / "curves")).Reload()
    assert {"step/loss", "step/lr", "epoch/loss", "epoch/accuracy"} <= set(events.Tags()["scalars"])
    assert [point.step for point in events.Scalars("epoch/loss")] == [3, 6]


def test_same_seed_same_weights(small_model, tmp_path: Path) -> None:
    ends = []
    for name in "ab":
        model = small_model()
        loop(model, tmp_path / name, epochs=2).run()
        ends.append(model.state_dict())
    assert all(torch.equal(ends[0][k], ends[1][k]) for k in ends[0])


def test_run_is_not_overwritten_or_resumed_with_another_recipe(small_model, tmp_path: Path) -> None:
    loop(small_model(), tmp_path, epochs=1).run()
    with pytest.raises(RunError, match="already has a run; add --resume"):
        loop(small_model(), tmp_path, epochs=1)
    with pytest.raises(RunError, match=r"had another recipe \(.*epochs differs\)"):
        loop(small_model(), tmp_path, epochs=2, resume=True)


def test_log_without_a_state_starts_over(small_model, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"epoch": 0, "loss": 7}\n{"epoch": 1, "lo')
    loop(small_model(), tmp_path, epochs=1, resume=True).run()
    [line] = (tmp_path / "log.jsonl").read_text().splitlines()
    assert json.loads(line)["loss"] != 7


def test_batches_that_do_not_split_evenly_are_refused(small_model, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="4 clips cannot be split into 3 equal parts"):
        loop(small_model(), tmp_path, accumulate=3)


def test_resuming_a_finished_run_does_nothing(small_model, tmp_path: Path) -> None:
    loop(small_model(), tmp_path, epochs=1).run()
    model = small_model()
    last = loop(model, tmp_path, epochs=1, resume=True, crash_at=0).run()
    assert json.loads((tmp_path / "log.jsonl").read_text()).items() <= last.items()
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1


def test_diverged_loss_stops_the_run(small_model, tmp_path: Path) -> None:
    model = small_model()
    model.head.classifier.weight.data.fill_(float("nan"))
    with pytest.raises(RunError, match=r"loss became nan in epoch 1; try a lower optim\.lr"):
        loop(model, tmp_path).run()


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


def test_learning_rate_in_steps_as_published() -> None:
    optim = OptimConfig(epochs=30, warmup_epochs=0, schedule="steps", milestones=(25, 28))
    assert [schedule(e, optim) for e in (0, 24.9, 25, 27.9, 28, 29.9)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


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
