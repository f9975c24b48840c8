from __future__ import annotations

from pathlib import Path

import pytest

from sefar_training.adapter.compare import load_comparison, plan_comparison
from sefar_training.adapter.config import load_adapter_recipe
from sefar_training.recipe import RecipeError

RECIPES = Path(__file__).resolve().parents[4] / "training" / "recipes"
SHIPPED = RECIPES / "synthgym_adapter.yaml"


def test_the_recipe_that_ships_keeps_to_a_tenth_of_the_labels() -> None:
    recipe = load_adapter_recipe(SHIPPED)
    assert recipe.name == "sefar-synthgym-captioner" and recipe.whole
    assert recipe.data.train == Path("lists/synthgym_10/train.csv")
    assert recipe.data.unlabel == Path("lists/synthgym_10/unlabel.csv")
    assert recipe.encoder == Path("model_repository/sefar_encoder/1/model.onnx")


def test_overrides_reach_every_group() -> None:
    recipe = load_adapter_recipe(
        SHIPPED, ["language_model=some/llm", "lora={r: 4}", "together.lr=2e-4", "data.views=2", "features=none"]
    )
    assert recipe.lora is not None and (recipe.lora.r, recipe.lora.alpha) == (4, 32)
    assert (recipe.together.lr, recipe.data.views, recipe.features, recipe.whole) == (2e-4, 2, "none", False)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("together.speed=3", "unknown key .together.speed.; the keys are accumulate, batch_size"),
        ("lora={r: 4}", "lora is for a pretrained language_model"),
        ("data.hard=0.9", "hard and near are shares whose sum"),
        ("tiny.heads=3", "must be an even whole number"),
        ("together.accumulate=5", "accumulate 5 does not divide batch_size 32"),
        ("features=uniform", "features: 'uniform' is not supported; use sefar or none"),
        ("nonsense", "is not of the form key=value"),
    ],
)
def test_what_is_wrong_is_named(override: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        load_adapter_recipe(SHIPPED, [override])


def test_files_that_are_not_recipes(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("- 1\n")
    with pytest.raises(RecipeError, match="top level must be a mapping"):
        load_adapter_recipe(file)
    file.write_text("a: [")
    with pytest.raises(RecipeError, match="is not YAML"):
        load_adapter_recipe(file)


def test_the_comparison_that_ships_differs_in_features_alone(tmp_path: Path) -> None:
    comparison = load_comparison(RECIPES / "synthgym_adapter_compare.yaml")
    runs = plan_comparison(comparison, tmp_path)
    assert {"sefar", "uniform", "blind"} <= set(comparison.variants) and comparison.focus == "sefar"
    assert len(runs) == len(comparison.seeds) * len(comparison.variants) == len({run.config.out for run in runs})
    for seed in comparison.seeds:
        same = [run.config for run in runs if run.seed == seed]
        shared = {r.model_dump_json(exclude={"out", "encoder", "features"}) for r in same}
        assert len(shared) == 1 and all(r.seed == seed and r.data.test is None for r in same)


def test_malformed_comparisons_are_named(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    text = "title: t\nrecipe: r.yaml\ntest: t.csv\nseeds: [0, 0]\nvariants: {a: {}}\nfocus: a\n"
    file.write_text(text)
    with pytest.raises(RecipeError, match="a seed is given twice"):
        load_comparison(file)
    file.write_text(text.replace("focus: a", "focus: b").replace("[0, 0]", "[0]"))
    with pytest.raises(RecipeError, match="'b' is none of the variants a"):
        load_comparison(file)
