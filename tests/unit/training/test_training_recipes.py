"""The recipes of the project: all are valid, and those of the paper start from the authors' lists alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_videos import encode

from sefar_training.adapter.compare import Comparison
from sefar_training.adapter.config import AdapterRecipe
from sefar_training.checkpoint import read_info
from sefar_training.config import TrainConfig, load_recipe
from sefar_training.data import read_list
from sefar_training.recipe import RecipeError, find_recipe
from sefar_training.train import read_classes, train

RECIPES = Path(__file__).resolve().parents[3] / "training" / "recipes"
PAPER = ["finediving", "finegym", "hmdb51", "ucf101"]


# Those of adapters are of another kind, and are tested with them.
ENCODERS = sorted(file for file in RECIPES.glob("*.yaml") if "adapter" not in file.stem)


@pytest.mark.parametrize("file", ENCODERS, ids=lambda f: f.stem)
def test_every_recipe_of_the_project_is_valid(file: Path) -> None:
    config = load_recipe(file)
    assert config.data.name == (None if file.stem.startswith("own_") else file.stem.split("_")[0])
    assert file.read_text().startswith("# ")


def test_recipes_are_found_by_name(tmp_path: Path) -> None:
    assert find_recipe(Path("ucf101"), TrainConfig) == RECIPES / "ucf101.yaml"
    assert find_recipe(Path("synthgym_adapter"), AdapterRecipe) == RECIPES / "synthgym_adapter.yaml"
    own = tmp_path / "ucf101"
    own.write_text("")
    assert find_recipe(own, TrainConfig) == own
    names = ", ".join(file.stem for file in ENCODERS)
    with pytest.raises(RecipeError, match=rf"ucf102 does not exist; give a YAML file, .* that ships: {names}$"):
        find_recipe(Path("ucf102"), TrainConfig)
    with pytest.raises(RecipeError, match=r"is a folder, not a recipe \(so\); give"):
        find_recipe(tmp_path, TrainConfig, " (so)")
    with pytest.raises(RecipeError, match=r"does not exist; .* that ships: synthgym_adapter_compare$"):
        find_recipe(Path("x"), Comparison)


@pytest.mark.parametrize("name", PAPER)
def test_recipes_of_the_paper_have_its_hyper_parameters(name: str) -> None:
    config = load_recipe(RECIPES / f"{name}.yaml")
    optim, semi = config.optim, config.semi
    assert (config.method, config.model.variant, config.model.size, config.scale) == ("sefar", "base", 224, (256, 320))
    assert (optim.optimizer, optim.lr, optim.momentum, optim.weight_decay) == ("sgd", 0.005, 0.9, 1e-3)
    assert (optim.epochs, optim.schedule, optim.milestones, optim.warmup_epochs) == (30, "steps", (25, 28), 0)
    assert (optim.batch_size, semi.batch_size, semi.start_epoch, semi.teacher_decay) == (8, 8, 5, 0.9999)
    assert not semi.teacher_warmup and optim.clip_grad is None
    assert (config.model.dropout, config.model.sample_frames, config.data.strong) == (0.5, (2, 2, 4), 0)
    assert (semi.ramp, semi.regulation, config.perturbation) == (True, True, "moderate")
    assert (semi.mc_samples, semi.pseudo_weight, semi.mix_weight, semi.mix_alpha) == (10, 2, 2, 10)


@pytest.mark.parametrize(
    ("recipe", "lists", "more", "classes"),
    [
        ("finegym", "all99_5", [], 99),
        ("finegym", "UB_10", [], 25),
        ("finegym", "FX_S1_10", [], 11),
        ("finegym", "list_finegym_new_10", [], 40),
        ("ucf101", "list_ucf_1", [], 101),
        ("ucf101", "list_ucf_5", ["data.unlabel=unlabe.csv"], 101),
        ("hmdb51", "list_hmdb_40", [], 51),
    ],
)
def test_classes_and_paths_of_the_authors_lists(
    shared_data: Path, recipe: str, lists: str, more: list[str], classes: int
) -> None:
    folder = shared_data / "official" / "lists" / lists
    config = load_recipe(RECIPES / f"{recipe}.yaml", [f"data.lists={folder}", *more])
    assert len(read_classes(config).labels) == classes
    for file in (config.data.train, config.data.unlabel, config.data.test):
        assert file is not None
        for entry in read_list(file, config.data.root, config.data.remap):
            assert entry.path.is_relative_to(f"data/{recipe}/videos")


@pytest.mark.parametrize("method", ["supervised", "sefar"])
def test_the_recipe_of_gym99_trains_on_clips_named_as_in_its_lists(tmp_path: Path, method: str) -> None:
    (tmp_path / "videos").mkdir()
    folder = tmp_path / "lists" / "all99_5"
    folder.mkdir(parents=True)
    for split, labels in {"train": (3, 98), "unlabel": (0, 50), "test": (7, 98)}.items():
        lines = []
        for number, label in enumerate(labels):
            name = f"0LtLS9wROrk_E_002407_002435_A_{number:04d}_{split}.mp4"
            encode(tmp_path / "videos" / name, 12, brightness=20 * number)
            lines.append(f"/root/video/{name} {label}\r\n")
        (folder / f"{split}.csv").write_text("".join(lines), newline="")
    small = ["model.variant=tiny", "model.size=64", "model.resize=72", "init=null", "optim.precision=fp32"]
    short = ["optim.epochs=1", "optim.batch_size=2", "semi.batch_size=2", "semi.start_epoch=0", "data.workers=0"]
    where = [f"data.root={tmp_path}", f"out={tmp_path / 'run'}", f"method={method}"]
    final = train(load_recipe(RECIPES / "finegym.yaml", small + short + where), progress=False)
    info = read_info(final)
    assert info.labels == tuple(f"class_{n}" for n in range(99))
    assert info.metrics["test"]["clips"] == 2
