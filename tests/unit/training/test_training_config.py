from __future__ import annotations

from pathlib import Path

import pytest

from sefar_training.config import ModelConfig, load_recipe
from sefar_training.model import Architecture, create_model
from sefar_training.recipe import RecipeError

MINIMAL = "out: runs/x\ndata: {root: d, train: train.csv}\noptim: {epochs: 2}\n"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    file = tmp_path / "recipe.yaml"
    file.write_text(MINIMAL)
    return file


def test_overrides_reach_any_depth_and_are_read_as_yaml(recipe: Path) -> None:
    config = load_recipe(
        recipe,
        ["optim.epochs=7", "model.sample_frames=[1, 3]", "data.remap={a/: b/}", "out=r=1"],
    )
    assert config.optim.epochs == 7
    assert config.model.sample_frames == (1, 3)
    assert config.data.remap == {"a/": "b/"}
    assert config.out == Path("r=1")


def test_the_name_of_the_data_set_follows_the_data(recipe: Path) -> None:
    assert load_recipe(recipe).data.dataset == "d"
    recipe.write_text(MINIMAL.replace("root: d", "name: gym, root: d"))
    assert load_recipe(recipe, ["data.flip=0"]).data.dataset == "gym"
    assert load_recipe(recipe, ["data.root=/data/my clips (2)/"]).data.dataset == "my-clips-2"
    assert load_recipe(recipe, ["data.root=/data/x", "data.name=tennis"]).data.dataset == "tennis"
    assert load_recipe(recipe, ["data.root=/"]).data.dataset == "unnamed"


def test_scale_defaults_to_the_papers_in_proportion(recipe: Path) -> None:
    assert load_recipe(recipe).scale == (73, 91)
    assert load_recipe(recipe, ["model.size=224", "model.resize=256"]).scale == (256, 320)


def test_lists_may_be_named_by_their_folder(recipe: Path) -> None:
    data = load_recipe(recipe, ["data.lists=lists/ub_10", "data.unlabel=unlabe.csv", "data.test=/abs/test.csv"]).data
    assert (data.train, data.unlabel) == (Path("lists/ub_10/train.csv"), Path("lists/ub_10/unlabe.csv"))
    assert (data.val, data.test) == (None, Path("/abs/test.csv"))
    assert type(data).model_validate(data.model_dump()) == data


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.epoch=3", r"unknown key .optim\.epoch.; did you mean optim\.epochs\?"),
        ("optim.epochs=0", r"optim\.epochs: must be at least 1, not 0"),
        (
            "model.variant=huge",
            r"model\.variant: 'huge' is not supported; use tiny, small, base, pose-tiny or pose-small",
        ),
        ("model.sample_frames=[]", r"model: .*sample_frames is empty"),
        ("model.size=60", r"model: .*size 60 is not a multiple"),
        ("model.resize=32", r"model: .*resize 32 is smaller than size 64"),
        ("data.scale=[80, 64]", r"data: .*not in ascending order"),
        (
            "regularization.freeze_stem=true",
            r"freeze_stem keeps the stem of init, but init is null.* init to a checkpoint",
        ),
        ("data.lists=3", r"data: .*lists must be the path of a folder"),
        ("model.stream=both", r"stream both is not trained; .* join them with `sefar fuse`"),
        ("resume=true", "unknown key 'resume'"),
        ("optim", r"'optim' is not of the form key=value"),
        ("out.deep=1", r"out is a value, not a group"),
        ("out=[", r"the value is not YAML"),
    ],
)
def test_mistakes_are_named(recipe: Path, override: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(recipe, [override])


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"nope\.yaml does not exist; give a YAML file"):
        load_recipe(tmp_path / "nope.yaml")
    (tmp_path / "a.mp4").write_bytes(bytes(range(256)))
    with pytest.raises(RecipeError, match=r"a\.mp4 is not a text file"):
        load_recipe(tmp_path / "a.mp4")


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", ""])
def test_file_that_is_not_a_recipe_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    with pytest.raises(RecipeError, match=r"broken\.yaml is not"):
        load_recipe(file)


def test_sizes_without_a_name() -> None:
    config = ModelConfig(architecture=Architecture(patch=8, dim=48, depth=2, heads=3), size=40, resize=48)
    assert config.sizes_name == "48x2"
    assert ModelConfig.model_validate_json(config.model_dump_json()) == config
    model = create_model(config.variant, 2, size=config.size, architecture=config.architecture)
    assert model.backbone.pos_embed.shape == (1, 26, 48)
    assert ModelConfig().sizes_name == "tiny"
    with pytest.raises(ValueError, match="size 64 is not a multiple of the patch size 12"):
        ModelConfig(architecture=Architecture(patch=12, dim=48, depth=2, heads=3))
    with pytest.raises(ValueError, match="width 48 is not a multiple of the number of heads 5"):
        Architecture(patch=8, dim=48, depth=2, heads=5)
