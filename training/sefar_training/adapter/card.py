"""The model card of an adapter: its parts, its training, its results and its limits."""

from __future__ import annotations

from pathlib import Path

from sefar_serve.atomic import atomic_file
from sefar_serve.metadata import ModelMetadata
from sefar_serve.mllm import SefarForConditionalGeneration

from ..markdown import markdown_table
from .config import AdapterRecipe
from .data import Taught
from .measures import AdapterReport
from .report import report_rows

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
        folder: the adapter's folder.
        recipe: the recipe of its training.
        model: the adapter.
        about: the encoder.
        taught: the clips that it was trained on.
        report: results on clips that it was not trained on; None if the recipe has no test list.

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
        "Lets a language model read the features of a SeFAR encoder: it captions clips and answers questions.\n\n"
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
            f"byte-level BPE of {model.config.text_config.vocab_size} entries), trained from scratch by this recipe; "
            "included in this folder"
        )
    else:
        lora = "frozen" if recipe.lora is None else f"with a LoRA of rank {recipe.lora.r}"
        language = f"{recipe.language_model}, {lora}; not included, its fingerprint is checked at load"
    rows = [
        ["encoder", f"{about.name}, version {about.version}; works with no other encoder"],
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
        f"Trained on {taught.labelled} labelled clips of {about.dataset}"
        + (
            f" and {pseudo} unlabelled ones, with pseudo-labels of the encoder's classifier whose η was at least "
            f"{recipe.data.threshold:g}."
            if pseudo
            else "."
        ),
        f"Every clip was used in {recipe.data.views} views. Captions, multiple-choice questions and questions about "
        "single attributes were drawn at random in every step. The answer to a multiple-choice question is the text of "
        "the option.",
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
        + f"; seed {recipe.seed}. The full recipe is in `recipe.yaml`.",
    ]
    if recipe.features == "none":
        lines.append("This is the blind baseline: its features were zeros.")
    return "## Training\n\n" + "\n".join(lines)


def _figures(recipe: AdapterRecipe, report: AdapterReport | None) -> str:
    if report is None:
        return "## Results\n\nNot evaluated: the recipe has no test list."
    rows = [list(row) for row in report_rows(report)]
    examples = "\n".join(f"- {example.label}: *{example.caption}*" for example in report.examples)
    return (
        f"## Results\n\nMeasured on {report.clips} clips of `{recipe.data.test}`, which neither this adapter nor its "
        "encoder was trained on. Values are per cent, with 95 % Wilson intervals over clips. The second column is the "
        "encoder's own classifier, which no adapter can be expected to beat. Multiple-choice questions are answered "
        f"with the mode `{report.mode}`. The options of hard questions are the classifier's most probable wrong "
        "classes; those of near questions are classes that differ in few attributes.\n\n"
        f"{markdown_table(['', 'this adapter', 'classifier'], rows)}\n\nExamples, at regular intervals:\n\n{examples}"
    )


def _limits(recipe: AdapterRecipe, about: ModelMetadata) -> str:
    lines = [
        f"- It describes what the encoder sees. If {about.name} is wrong, the caption is wrong too, and sounds just as "
        "certain. Check η.",
        f"- It knows only the {len(about.labels)} classes of {about.dataset}. Any other video is described as one of "
        "them.",
    ]
    if recipe.language_model is None:
        lines.append(
            "- The language model was trained only on sentences about these classes. It can caption, answer multiple "
            "choice, and answer questions about single attributes. It treats any other question as one of these."
        )
    lines.append("- The results are from a single training run with one seed.")
    return "## Limits\n\n" + "\n".join(lines)
