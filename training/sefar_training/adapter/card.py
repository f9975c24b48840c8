"""The model card of an adapter: what it is made of, what it was measured to do, and what it cannot do."""

from __future__ import annotations

from pathlib import Path

from sefar_serve.atomic import atomic_file
from sefar_serve.metadata import ModelMetadata
from sefar_serve.mllm import SefarForConditionalGeneration

from .config import AdapterRecipe
from .data import Taught
from .measures import AdapterReport
from .report import markdown_table, report_rows

CARD = "README.md"


def write_card(
    folder: Path,
    recipe: AdapterRecipe,
    model: SefarForConditionalGeneration,
    about: ModelMetadata,
    taught: Taught,
    report: AdapterReport | None,
) -> Path:
    """Write the card into an adapter's folder.

    Args:
        folder: of the adapter.
        recipe: it was trained by.
        model: the adapter.
        about: the encoder.
        taught: the clips it learnt from.
        report: of clips it was not trained on; None where the recipe names none.

    Returns:
        The file.
    """
    parts = [_head(recipe), _made_of(recipe, model, about), _training(recipe, about, taught), _figures(recipe, report)]
    parts.append(_limits(recipe, about))
    with atomic_file(folder / CARD) as new:
        new.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return folder / CARD


def _head(recipe: AdapterRecipe) -> str:
    base = "" if recipe.language_model is None else f"base_model: {recipe.language_model}\n"
    return (
        f"---\nlibrary_name: transformers\npipeline_tag: video-text-to-text\n{base}"
        "tags: [sefar, video-captioning]\n---\n"
        f"# {recipe.name}\n\n"
        "Lets a language model read what a SeFAR encoder says of a clip: captions, and answers to questions.\n\n"
        "```\n"
        "sefar caption clip.mp4\n"
        'sefar ask clip.mp4 "How many turns?"\n'
        "```"
    )


def _made_of(recipe: AdapterRecipe, model: SefarForConditionalGeneration, about: ModelMetadata) -> str:
    total = sum(p.numel() for p in model.language_model.parameters())
    own = sum(p.numel() for p in model.projector.parameters())
    if recipe.language_model is None:
        sizes = recipe.tiny
        language = (
            f"Llama of {total / 1e6:.2f} million parameters (width {sizes.hidden}, {sizes.layers} layers, "
            f"byte-level BPE of {model.config.text_config.vocab_size} entries), trained from nothing by this recipe; "
            "in this folder"
        )
    else:
        lora = "frozen" if recipe.lora is None else f"with a LoRA of rank {recipe.lora.r}"
        language = f"{recipe.language_model}, {lora}; not in this folder, checked by a fingerprint when it is loaded"
    rows = [
        ["encoder", f"{about.name}, version {about.version}; no other fits"],
        [
            "a clip becomes",
            f"{model.config.soft_tokens} soft tokens: its embedding and {model.config.elements} elements",
        ],
        ["projector", f"{own / 1e6:.2f} million parameters"],
        ["language model", language],
    ]
    return markdown_table(["", ""], rows)


def _training(recipe: AdapterRecipe, about: ModelMetadata, taught: Taught) -> str:
    pseudo = len(taught.labels) - taught.labelled
    lines = [
        f"Learnt from {taught.labelled} clips of {about.dataset} with their labels"
        + (
            f" and {pseudo} without, which were given the label of the encoder's own classifier where its η was at "
            f"least {recipe.data.threshold:g}."
            if pseudo
            else "."
        ),
        f"Every clip was seen in {recipe.data.views} views. Captions, multiple-choice questions and questions about "
        "single attributes were drawn anew for every step; the answer to a question is the option's text.",
        "Stages, in steps: "
        + ", ".join(
            f"{name} {stage.steps}"
            for name, stage in (
                ("language model alone", recipe.language),
                ("projector alone", recipe.projector),
                ("together", recipe.together),
            )
            if stage.steps and (recipe.whole or name != "language model alone")
        )
        + f"; seed {recipe.seed}. The whole recipe is in `recipe.yaml`.",
    ]
    if recipe.features == "none":
        lines.append("This is the blind baseline: its clips were zeros.")
    return "## Training\n\n" + "\n".join(lines)


def _figures(recipe: AdapterRecipe, report: AdapterReport | None) -> str:
    if report is None:
        return "## Figures\n\nNone were measured: the recipe names no list to measure on."
    rows = [list(row) for row in report_rows(report)]
    examples = "\n".join(f"- {example.label}: *{example.caption}*" for example in report.examples)
    return (
        f"## Figures\n\n{report.clips} clips of `{recipe.data.test}`, which neither this adapter nor its encoder was "
        "trained on. Per cent, with Wilson's 95 % intervals over clips; beside it the encoder's own classifier, which "
        "no adapter can be expected to beat. Questions are answered by the probability of their options "
        f"({report.mode}); hard ones have the classifier's most probable wrong classes as options, near ones a "
        "group of classes that differ in few attributes.\n\n"
        f"{markdown_table(['', 'this adapter', 'the classifier'], rows)}\n\nEvery so many clips, one:\n\n{examples}"
    )


def _limits(recipe: AdapterRecipe, about: ModelMetadata) -> str:
    lines = [
        f"- It says what the encoder sees: where {about.name} is wrong, so is the caption, in a sentence that sounds "
        "as sure as any other. Look at η beside it.",
        f"- It knows the {len(about.labels)} classes of {about.dataset} and no others; any other video is described as "
        "one of them.",
    ]
    if recipe.language_model is None:
        lines.append(
            "- The language model has read nothing but sentences about these classes. It answers what it was asked "
            "in training: captions, multiple choice, single attributes. Asked anything else it answers as if it were "
            "one of these."
        )
    lines.append("- The figures are of one training with one seed.")
    return "## Limits\n\n" + "\n".join(lines)
