"""Training from clips to a folder, in seconds: it learns, it can be repeated, and every way ends well."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from redescribed_model import write_redescribed
from small_videos import encode
from typer.testing import CliRunner

from sefar_serve.cli import app
from sefar_serve.language import AdapterMismatchError
from sefar_serve.metadata import ModelMetadata
from sefar_serve.mllm.adapter import Adapter, load_adapter
from sefar_training.adapter.compare import load_comparison, report_file, run_comparison
from sefar_training.adapter.comparison_page import by_variant, claim_text, write_comparison
from sefar_training.adapter.config import AdapterRecipe, load_adapter_recipe
from sefar_training.adapter.data import Taught
from sefar_training.adapter.evaluate import evaluate_adapter, make_questions
from sefar_training.adapter.features import Features
from sefar_training.adapter.measures import AdapterReport, caption_figures
from sefar_training.adapter.stages import build_model, tiny_language_model, train_stages
from sefar_training.adapter.train import train_adapter
from sefar_training.data import ClassTable
from sefar_training.synthgym import CLASSES

# peft and transformers speak of each other's old names.
pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* is deprecated:FutureWarning")

FEW = CLASSES[:6]
TABLE = ClassTable(tuple(a.name for a in FEW), tuple(a.attributes for a in FEW))
ABOUT = ModelMetadata(
    name="clear",
    version="1",
    dataset="none",
    sample_frames=(2, 2),
    resize=32,
    size=32,
    labels=TABLE.labels,
    attributes=TABLE.attributes,
    embedding_dim=12,
    token_dim=8,
)
SMALL = {"vocabulary": 400, "hidden": 48, "layers": 2, "heads": 2, "intermediate": 96, "context": 256}


def clear_features(count: int, seed: int) -> Features:
    """Clips of which an encoder sees the class, in a little noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(len(FEW), size=count)
    embedding = 3 * np.eye(12)[labels] + 0.3 * rng.normal(size=(count, 12))
    tokens = 3 * np.eye(8)[labels][:, None].repeat(2, 1) + 0.3 * rng.normal(size=(count, 2, 8))
    logits = embedding[:, : len(FEW)]
    arrays = (embedding[:, None], tokens[:, None], logits[:, None], logits[:, None].repeat(10, 1))
    return Features(tuple(map(str, range(count))), labels, *(array.astype(np.float32) for array in arrays))


def small_recipe(folder: Path, **changes: object) -> AdapterRecipe:
    fields = {
        "out": folder / "out",
        "encoder": folder / "none.onnx",
        "cache": folder / "cache",
        "data": {"root": folder, "train": "train.csv"},
        "tiny": SMALL,
        "language": {"steps": 220, "lr": 5e-3},
        "projector": {"steps": 40, "lr": 5e-3},
        "together": {"steps": 160, "lr": 3e-3},
    }
    return AdapterRecipe(**{**fields, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("adapter")


def learn(recipe: AdapterRecipe, features: Features) -> Adapter:
    language_model, _ = tiny_language_model(recipe, ABOUT, TABLE, progress=False)
    model, processor = build_model(str(language_model), ABOUT, recipe)
    train_stages(model, processor, TABLE, Taught(features, features.labels, len(features)), recipe, progress=False)
    return Adapter(model.eval(), processor)


def report_on(adapter: Adapter, blind: bool = False) -> AdapterReport:
    clips = clear_features(48, seed=1)
    return evaluate_adapter(adapter, clips, TABLE, "clear", make_questions(clips, TABLE), blind=blind)


@pytest.fixture(scope="module")
def learnt(folder: Path) -> Adapter:
    torch.set_num_threads(1)
    return learn(small_recipe(folder), clear_features(60, seed=0))


def test_captions_say_what_the_encoder_sees(learnt: Adapter) -> None:
    report = report_on(learnt)
    assert report.classifier.exact.value == 1
    assert report.captions.exact.value > 0.95 and report.captions.mean > 0.98
    assert report.questions["random"].adapter is not None and report.questions["random"].adapter.value > 0.9
    assert learnt.model.config.encoder == {"name": "clear", "version": "1"}
    assert learnt.model.config.text_config.use_cache and not learnt.model.config.text_config.name_or_path


def test_blind_adapter_can_only_guess(learnt: Adapter, folder: Path) -> None:
    features = clear_features(60, seed=0).blinded()
    # The language model is taken from the cache: only what depends on the clips is trained.
    kept = sorted((folder / "cache").iterdir())
    blind = report_on(learn(small_recipe(folder, out=folder / "blind"), features), blind=True)
    assert sorted((folder / "cache").iterdir()) == kept
    assert blind.captions.exact.value < 0.5
    assert blind.classifier == report_on(learnt).classifier


def test_the_same_seed_gives_the_same_weights(folder: Path, tmp_path: Path) -> None:
    quick = {"language": {"steps": 2}, "projector": {"steps": 2}, "together": {"steps": 2}}
    features = clear_features(10, seed=0)

    def weights(cache: str, seed: int) -> torch.Tensor:
        adapter = learn(small_recipe(tmp_path, cache=tmp_path / cache, seed=seed, **quick), features)
        return torch.cat([p.detach().flatten() for p in adapter.model.parameters()])

    first = weights("a", 0)
    assert torch.equal(first, weights("b", 0))
    assert not torch.equal(first, weights("c", 1))


def test_stage_one_trains_the_projector_alone(folder: Path, tmp_path: Path) -> None:
    recipe = small_recipe(folder, out=tmp_path, together={"steps": 0}, projector={"steps": 2})
    path, _ = tiny_language_model(recipe, ABOUT, TABLE, progress=False)
    model, processor = build_model(str(path), ABOUT, recipe)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    features = clear_features(10, seed=0)
    train_stages(model, processor, TABLE, Taught(features, features.labels, 10), recipe, progress=False)
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed and all(name.startswith("projector.") for name in changed)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve clips whose brightness is their class, and a recipe of a few steps."""
    root = tmp_path_factory.mktemp("clips")
    lines = []
    for i in range(12):
        encode(root / f"{i}.mp4", frames=10, brightness=40 * (i % 4))
        lines.append(f"{i}.mp4 {i % 4}\n")
    (root / "train.csv").write_text("".join(lines[:4]))
    (root / "unlabel.csv").write_text("".join(f"{i}.mp4 -1\n" for i in range(4, 8)))
    (root / "test.csv").write_text("".join(lines[8:]))
    return root


@pytest.fixture(scope="module")
def recipe_file(clips: Path, untrained_model: Path) -> Path:
    stage = {"steps": 2, "batch_size": 4}
    recipe = {
        "name": "little",
        "out": str(clips / "out"),
        "encoder": str(untrained_model),
        "cache": str(clips / "cache"),
        "data": {
            "root": str(clips),
            "train": "train.csv",
            "unlabel": "unlabel.csv",
            "test": "test.csv",
            "views": 2,
            "threshold": 0.0,
        },
        "tiny": SMALL,
        "language": stage,
        "projector": stage,
        "together": stage,
        "log_every": 1,
    }
    file = clips / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe))
    return file


@pytest.fixture(scope="module")
def finished(recipe_file: Path) -> Path:
    return train_adapter(load_adapter_recipe(recipe_file), progress=False)


def test_the_folder_has_all_that_users_need(finished: Path, recipe_file: Path, untrained_model: Path) -> None:
    recipe = load_adapter_recipe(recipe_file)
    assert finished == recipe.out / "final"
    assert load_adapter_recipe(finished / "recipe.yaml") == recipe
    lines = [json.loads(line) for line in (recipe.out / "log.jsonl").read_text().splitlines()]
    assert {line["stage"] for line in lines} == {"language", "projector", "together"}
    card = (finished / "README.md").read_text()
    assert "# little" in card and "Trained on 4 labelled clips" in card and "and 4 unlabelled ones" in card
    assert "4 clips of `test.csv`" in card and "| questions, hard |" in card
    assert load_adapter(finished).model.config.name == "little"


def test_the_command_measures_and_writes(finished: Path, clips: Path, untrained_model: Path, tmp_path: Path) -> None:
    where = [str(finished), str(clips / "test.csv"), "--root", str(clips), "--encoder", str(untrained_model)]
    result = CliRunner().invoke(app, ["adapter", "evaluate", *where, "--json", "--out", str(tmp_path / "r.json")])
    assert result.exit_code == 0, result.output
    report = AdapterReport.model_validate_json((tmp_path / "r.json").read_text())
    assert (report.adapter, report.clips, report.mode) == ("little", 4, "loglik")
    table = CliRunner().invoke(app, ["adapter", "evaluate", *where, "--blind", "--limit", "2"])
    assert table.exit_code == 0 and "little on blind, 4 clips" in table.output


def test_another_encoder_is_refused(finished: Path, clips: Path, untrained_model: Path, tmp_path: Path) -> None:
    write_redescribed(untrained_model, tmp_path / "other.onnx", name="other")
    where = [str(finished), str(clips / "test.csv"), "--root", str(clips), "--encoder", str(tmp_path / "other.onnx")]
    result = CliRunner().invoke(app, ["adapter", "evaluate", *where])
    assert isinstance(result.exception, AdapterMismatchError)  # `sefar` tells it in a line
    assert "was trained for untrained, version 1" in str(result.exception)


@pytest.mark.parametrize("lora", [None, {"r": 2, "alpha": 4}])
def test_pretrained_language_model(
    finished: Path, recipe_file: Path, clips: Path, tmp_path: Path, lora: dict[str, int] | None
) -> None:
    (own,) = (clips / "cache").glob("language-*")
    changes = [f"out={tmp_path}", f"language_model={own}", f"lora={json.dumps(lora)}", "data.test=null"]
    changes.append(f"gradient_checkpointing={json.dumps(lora is not None)}")
    folder = train_adapter(load_adapter_recipe(recipe_file, changes), progress=False)
    # The language model stays where it is; the folder says which it was.
    assert not (folder / "model.safetensors").exists() and (folder / "projector.safetensors").exists()
    assert (folder / "lora").is_dir() == (lora is not None)
    assert f"base_model: {own}" in (folder / "README.md").read_text()
    adapter = load_adapter(folder)
    plain = load_adapter(folder, language_model=str(own))
    assert torch.equal(adapter.model.get_input_embeddings().weight, plain.model.get_input_embeddings().weight)


def test_a_comparison_trains_each_once_and_writes_one_table(
    finished: Path, recipe_file: Path, clips: Path, tmp_path: Path
) -> None:
    plan = {
        "title": "Nothing against nothing",
        "note": "How it was set up",
        "recipe": "recipe.yaml",
        "test": "test.csv",
        "seeds": [0, 1],
        "variants": {"sefar": {}, "blind": {"features": "none"}},
        "focus": "sefar",
    }
    (clips / "compare.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))
    comparison = load_comparison(clips / "compare.yaml")
    done = run_comparison(comparison, tmp_path, progress=False)
    assert [(run.variant, run.seed) for run, _ in done] == [("sefar", 0), ("blind", 0), ("sefar", 1), ("blind", 1)]
    assert [report.blind for _, report in done] == [False, True, False, True]
    times = {report_file(run): report_file(run).stat().st_mtime_ns for run, _ in done}
    again = run_comparison(comparison, tmp_path, progress=False)
    assert again == done and all(file.stat().st_mtime_ns == time for file, time in times.items())
    as_json, markdown, html = write_comparison(comparison, done, tmp_path)
    rows = json.loads(as_json.read_text())["rows"]
    assert [row["name"] for row in rows] == ["classifier, sefar", "adapter, sefar", "adapter, blind"]
    assert rows[1]["QA hard"]["half"] is not None and rows[0]["QA consistent"] is None
    assert "| classifier, sefar |" in markdown.read_text()
    assert "Nothing against nothing" in html.read_text()


def test_the_claim_can_be_rejected(finished: Path, recipe_file: Path, clips: Path, tmp_path: Path) -> None:
    plan = {
        "title": "t",
        "recipe": "recipe.yaml",
        "test": "test.csv",
        "seeds": [0, 1, 2],
        "variants": {"sefar": {}, "other": {"data.flip": 0.0}},
        "focus": "sefar",
    }
    (clips / "claim.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))
    comparison = load_comparison(clips / "claim.yaml")
    run = run_comparison(comparison.model_copy(update={"seeds": (0,)}), tmp_path, progress=False)
    ours, others = run[0][0], run[1][0]

    def claim(own: list[float], other: list[float]) -> str:
        done = [(replace(ours, seed=i), report_like(v)) for i, v in enumerate(own)]
        done += [(replace(others, seed=i), report_like(v)) for i, v in enumerate(other)]
        assert [name for name, _ in by_variant(done)] == ["sefar", "other"]
        return claim_text(comparison, done)

    assert "(better)" in claim([0.90, 0.91, 0.92], [0.80, 0.81, 0.82])
    assert "(worse)" in claim([0.80, 0.81, 0.82], [0.90, 0.911, 0.92])
    assert "no significant difference" in claim([0.90, 0.80, 0.85], [0.84, 0.85, 0.86])
    assert "shows nothing about chance" in claim([0.9], [0.8])


def report_like(mean: float) -> AdapterReport:
    figures = caption_figures([{"event": "FX"}] * 4, [{"event": "FX"}] * 4).model_copy(update={"mean": mean})
    return AdapterReport(
        adapter="a",
        encoder="e",
        blind=False,
        clips=4,
        captions=figures,
        classifier=figures,
        mode="loglik",
        questions={},
    )
