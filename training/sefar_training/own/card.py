"""The model card of a model made from a user's videos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from sefar_serve.atomic import atomic_file
from sefar_serve.lists import UNKNOWN
from sefar_serve.pose.models import MEDIAPIPE
from sefar_serve.quantity import quantity
from sefar_serve.reliability import UNFAMILIAR_BELOW

from ..markdown import code_block, escape_markdown, markdown_table
from ..start import Prepared
from ..typical import FEWEST_HELD_OUT
from .report import RunFacts
from .trial import Choice
from .words import (
    about_control,
    about_new_places,
    about_same_places,
    counts,
    learnt_groups,
    python_lines,
    serve_command,
)

FEW = 10
"""Classes with fewer clips are named as a limit."""

NAMED = 10
"""Most classes that a limit names."""

SEES = {
    "rgb": "frames of a clip",
    "pose": "joints of the persons in a clip, never its pixels",
    "both": "frames of a clip, and joints of the persons in it",
}


def write_card(path: Path, prepared: Prepared, choice: Choice, run: RunFacts) -> Path:
    """Write the card, in the layout of the Hugging Face hub.

    It names neither clips nor groups, so that it can be published with the model.

    Args:
        path: the file; replaced atomically if it exists.
        prepared: the collection.
        choice: what was tried and chosen.
        run: what the run left.

    Returns:
        The file.
    """
    onnx = Path(run.onnx.name)
    parts = [
        _head(run),
        f"# {escape_markdown(run.name)}",
        f"Recognizes {_classes_in_words(prepared)} in short video clips. It was made with `sefar train --data`.",
        _made_of(choice, run),
        "## Classes\n\n" + _classes(prepared),
        "## Training\n\n" + _training(prepared),
        "## Results\n\n" + _results(prepared, choice, run),
        "## Clips that it does not know\n\n" + _familiarity(run),
        "## Limits\n\n" + "\n".join(f"- {limit}" for limit in _limits(prepared, choice)),
        f"## Use\n\nServe it:\n\n{code_block(serve_command(onnx))}",
        f"Or call it from Python:\n\n{code_block(python_lines(onnx))}",
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as new:
        new.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def _head(run: RunFacts) -> str:
    about: dict[str, Any] = {
        "library_name": "sefar",
        "pipeline_tag": "video-classification",
        "tags": ["sefar", "video-classification", "action-recognition", "onnx"]
        + (["pose"] if run.stream != "rgb" else []),
        "model_name": run.name,
    }
    return f"---\n{yaml.safe_dump(about, allow_unicode=True, sort_keys=False)}---"


def _classes_in_words(prepared: Prepared) -> str:
    count = len(prepared.classes)
    return f"{count} {'class' if count == 1 else 'classes'}"


def _made_of(choice: Choice, run: RunFacts) -> str:
    frozen = [f"`{w.name}` ({escape_markdown(w.licence)}; {escape_markdown(w.what)})" for w in run.weights]
    shares = (
        "" if run.pose_weight is None else f" (joints have weight {run.pose_weight:g}, frames {1 - run.pose_weight:g})"
    )
    needed = f"MediaPipe's pose models ({MEDIAPIPE.package}, Apache-2.0), which `{MEDIAPIPE.setup}` installs"
    rows = [
        ["file", f"{escape_markdown(run.onnx.name)} (ONNX)"],
        ["method", escape_markdown(choice.chosen.title) + shares],
        ["sees", SEES[run.stream]],
        ["contains frozen weights of", ", ".join(frozen) or "none"],
        ["needs, not contained", needed if run.stream != "rgb" else "nothing"],
        ["licence", "not chosen yet: it depends on the rights to the videos"],
    ]
    return markdown_table(["", ""], rows)


def _classes(prepared: Prepared) -> str:
    rows = []
    for k, name in enumerate(prepared.classes):
        of_class = prepared.labels == k
        groups = len(np.unique(prepared.groups.of[of_class]))
        rows.append([str(k), escape_markdown(name), str(int(of_class.sum())), str(groups)])
    return markdown_table(["number", "class", "labelled clips", "groups"], rows)


def _training(prepared: Prepared) -> str:
    splits = prepared.splits
    used = [("train", splits.train), ("val", splits.val), ("test", splits.test), ("without a label", splits.unlabelled)]
    told = ", ".join(f"{len(clips)} {name}" for name, clips in used if len(clips))
    seconds = sum(look.seconds for look in prepared.looks)
    return (
        f"{counts(prepared)}: {told}. In all {seconds / 60:.1f} minutes of video. A group is what was recorded "
        f"together, e.g. in one place; here {escape_markdown(prepared.groups.why)}. Labels are those of the owner of "
        "the videos."
    )


def _results(prepared: Prepared, choice: Choice, run: RunFacts) -> str:
    told = [about_new_places(prepared, choice), about_same_places(prepared, choice), about_control(prepared, choice)]
    lines = [f"- {escape_markdown(text)}" for text in dict.fromkeys(told)]
    if run.test is not None:
        test = run.test
        lines.append(
            f"- On the owner's test list, {quantity(test.clips, 'clip')}: {test.top1:.0%} right (95 % interval "
            f"{test.top1_low:.0%} to {test.top1_high:.0%}), {test.mean_class:.0%} averaged over classes."
        )
    lines.append(
        "\nThe first figures are balanced accuracies: the share of right answers in each class, averaged over classes. "
        "They are from cross-validation with one seed; the model itself learnt from all clips of train."
    )
    return "\n".join(lines)


def _familiarity(run: RunFacts) -> str:
    """What familiarity means for this model."""
    if not run.typical:
        return (
            "The model does not say whether it knows a clip: its val list has too few clips to measure that on. It "
            f"needs at least {FEWEST_HELD_OUT}, of groups that are not in train."
        )
    fewest = min(run.typical, key=lambda one: one.held_out)
    marked = sum(one.marked(UNFAMILIAR_BELOW) for one in run.typical)
    lower = " Frames and joints are measured each, and the lower value counts." if len(run.typical) > 1 else ""
    most = "at most " if len(run.typical) > 1 else ""
    return (
        "Answers have `familiarity`, from 0 to 1: the share of the "
        f"{quantity(fewest.held_out, 'val clip')} that were less typical of the training clips, by the distance to the "
        f"{fewest.neighbour}th nearest of {quantity(len(fewest.reference), 'training clip')}.{lower} Below "
        f"{UNFAMILIAR_BELOW:g} a clip is marked `unfamiliar`, and captions abstain; of the val clips, {most}{marked} "
        f"{'is' if marked == 1 else 'are'} marked. The setting is `SEFAR_UNFAMILIAR_BELOW`."
    )


def _limits(prepared: Prepared, choice: Choice) -> list[str]:
    labelled = prepared.labels[prepared.labels != UNKNOWN]
    counted = np.bincount(labelled, minlength=len(prepared.classes))
    few = [f"{escape_markdown(prepared.classes[k])} ({counted[k]})" for k in np.argsort(counted, kind="stable")
           if counted[k] < FEW]  # fmt: skip
    limits = [
        f"It knows the {_classes_in_words(prepared)} above. Any other movement is answered with one of them, sometimes "
        "with a high probability.",
        f"Its clips are of {quantity(learnt_groups(prepared), 'group')}. Expect the figure for new places where "
        "camera, place or persons are others, and less where they differ more than these groups do.",
        "A clip should show one movement, from start to end, as the clips of training do.",
    ]
    if not choice.beats_control:
        limits.append("It does not beat a single still frame, so it may know places or postures, not movements.")
    if choice.trial is None or choice.trial.new_places is None:
        limits.append("How good it is in new places is not known.")
    if few:
        more = f" and {len(few) - NAMED} more" if len(few) > NAMED else ""
        limits.append(
            f"Classes with fewer than {FEW} labelled clips are known badly, and measured badly: "
            f"{', '.join(few[:NAMED])}{more}."
        )
    return limits
