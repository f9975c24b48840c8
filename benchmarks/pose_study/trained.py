"""Models that are trained on joints: ours by `sefar_training.train`, ST-GCN++ by the same step and loop."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sefar_serve.pose import Estimator
from sefar_training.checkpoint import load_checkpoint
from sefar_training.config import Method, TrainConfig, load_recipe
from sefar_training.inputs import JointInputs
from sefar_training.loop import RunFolder, TrainingLoop, create_accelerator
from sefar_training.model import PoseNormalizer
from sefar_training.recipe import as_overrides
from sefar_training.run_folder import FINAL
from sefar_training.semisupervised.task import classify
from sefar_training.task import Setup
from sefar_training.train import train

from .clips import ClipSet, Draw
from .joints import joints_folder
from .linear import STREAMS, fingerprint
from .stgcn import STRIDES, WIDTHS, StGcn

RECIPE = Path(__file__).resolve().parents[2] / "training" / "recipes" / "own_pose_16.yaml"


@dataclass(frozen=True)
class Ours:
    """A way to train our model.

    Attributes:
        method: of the recipe.
        control: which joints it sees, see `joints.CONTROLS`; empty for all frames.
    """

    method: Method
    control: str = ""


OURS = {
    "pose": Ours("supervised"),
    "pose-fixmatch": Ours("fixmatch"),
    "pose-sefar": Ours("sefar"),
    "pose-first": Ours("supervised", "first"),
    "pose-mean": Ours("supervised", "mean"),
}

GRAPH_SETTINGS = ("lr=0.001", "lr=0.003", "lr=0.01")
"""What runs of ST-GCN++ choose between."""


@dataclass(frozen=True)
class Trainer:
    """Trains models on the joints of a set.

    Attributes:
        clips: the set.
        work: folder of the joints, and of temporary files.
        estimator: the one that found the joints.
        overrides: changes of the recipe, ``key=value``.
    """

    clips: ClipSet
    work: Path
    estimator: Estimator
    overrides: Sequence[str] = ()

    def recipe(self, **changes: Any) -> TrainConfig:
        """The recipe of our model, with changes by dotted key.

        Raises:
            RecipeError: an override is wrong.
        """
        return load_recipe(RECIPE, [*self.overrides, *as_overrides(changes)])

    def fingerprint(self, method: str) -> str:
        """A hash of what a method's runs depend on in the recipe; empty if nothing."""
        if method in STREAMS:
            return fingerprint(method)
        if method not in OURS and method != "stgcn":
            return ""
        config = self.recipe()
        kept = config.model_dump(mode="json", include={"joint_views", "regularization", "optim", "model", "semi"})
        kept["data"] = config.data.model_dump(mode="json", include={"flip", "strong_labelled"})
        if method == "stgcn":
            kept["model"] = [config.model.sampling.frames, WIDTHS, STRIDES]
            kept["regularization"] = config.regularization.label_smoothing
            del kept["optim"]["lr"], kept["optim"]["steps_per_epoch"]
            # The same steps in epochs of another length are the same run.
            for name in ("epochs", "warmup_epochs"):
                kept["optim"][name] *= config.optim.steps_per_epoch or 1
        if method == "stgcn" or OURS[method].method == "supervised":
            kept["semi"] = [config.semi.teacher_decay, config.semi.teacher_warmup]
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:8]

    def fit_ours(self, method: str, draw: Draw, seed: int) -> NDArray[np.float64]:
        """Train our model by one of `OURS`, and return the probabilities (n,K) of the clips left out."""
        how = OURS[method]
        with self._lists(draw) as folder:
            config = self._config(folder, seed, how.control, method=how.method)
            model, _ = load_checkpoint(train(config, progress=False, estimator=self.estimator))
            return self._predict(model, config)

    def fit_graph(self, setting: str, draw: Draw, seed: int) -> NDArray[np.float64]:
        """Train ST-GCN++ with one of `GRAPH_SETTINGS`; the same steps, views, batches and moving average as ours."""
        lr = float(setting.removeprefix("lr="))
        frames = self.recipe().model.sampling.frames
        in_time = {"model.sample_frames": [frames], "optim.lr": lr}
        with self._lists(draw) as folder:
            config = self._config(folder, seed, "", method="supervised", **in_time)
            accelerator = create_accelerator(config.optim)
            torch.manual_seed(seed)
            model: Any = StGcn(len(self.clips.classes))
            task = classify(Setup(config, model, JointInputs(config, self.estimator, progress=False), parts=1))
            TrainingLoop(
                task.step,
                task.sources,
                config.optim,
                RunFolder(config.out, {}),
                accelerator,
                seed=seed,
                checkpoint_every=config.checkpoint_every,
                progress=False,
            ).run()
            return self._predict(task.models[FINAL], config)

    def _config(self, folder: Path, seed: int, control: str, **changes: Any) -> TrainConfig:
        epochs = self.recipe().optim.epochs
        fixed = {
            "out": str(folder / "run"),
            "seed": seed,
            "checkpoint_every": epochs,
            "data.root": str(self.clips.root),
            "data.joints": str(joints_folder(self.work, control).resolve()),
            "data.labels": str(folder / "labels.txt"),
            "data.val": None,
            "data.test": None,
            "data.train": str(folder / "train.csv"),
            "data.unlabel": str(folder / "unlabel.csv"),
        }
        return self.recipe(**fixed, **changes)

    def _predict(self, model: nn.Module, config: TrainConfig) -> NDArray[np.float64]:
        held = JointInputs(config, self.estimator, progress=False).evaluation(config.data.train.with_name("held.csv"))
        inputs = torch.stack([held[index]["inputs"] for index in range(len(held))])
        model.eval()
        with torch.inference_mode():
            logits = model(PoseNormalizer()(inputs)).logits
        found: NDArray[np.float64] = logits.double().softmax(dim=1).numpy()
        return found

    @contextmanager
    def _lists(self, draw: Draw) -> Iterator[Path]:
        """A temporary folder with the lists of a draw and the class table."""
        self.work.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.work, prefix="run-") as name:
            folder = Path(name).resolve()
            for file, numbers in (("train", draw.labelled), ("unlabel", draw.unlabelled), ("held", draw.held)):
                lines = [f"{self.clips.paths[number]} {self.clips.labels[number]}\n" for number in numbers]
                (folder / f"{file}.csv").write_text("".join(lines), encoding="utf-8")
            (folder / "labels.txt").write_text("".join(f"{name}\n" for name in self.clips.classes), encoding="utf-8")
            yield folder
