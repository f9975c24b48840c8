"""reference/recipes.md: every field of a recipe, read from the source, since importing it would import torch."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path

import griffe
from tables import code, sentence, table

INTRO = """# Recipes

A recipe is the YAML file that `sefar train` takes. Its top level has the fields of `TrainConfig`; the other classes
are its groups. Unknown keys and invalid values are errors, reported before training starts. Set any field on the
command line with dotted keys: `optim.lr=3e-4`. [Train](../how-to/train.md) shows recipes in use. Those that ship are in
`training/recipes/` in the repository and in the installed package; `sefar train` takes their names.
"""

TRUE_JOINTS = """## True joints

`data.true_joints` names a folder of joints (pose keypoints) that are known, e.g. to a renderer or a motion-capture
system. It lies in the folder of the clips and holds:

- `joints.json`, an object with `joints`, the 15 names of `sefar_serve.pose.JOINTS` in that order; `estimator`, the text
  `true:` and a name of your choice; and `estimator_sha256`, the SHA-256, in hexadecimal digits, of a description of how
  the joints were made.
- Any number of `.npz` files. For each clip one of them has an array under the path of the clip relative to the folder
  of the clips, e.g. `videos/a.mp4`.

Each array is float32 (T, P, J, 4): T frames at the centres of equal segments of the clip, e.g. all of its frames; P
persons, the number of `model.persons`; J = 15 joints; x, y, z in metres and visibility in [0, 1]. The middle of the
hips is at 0; x points to the right of the picture, y down, z away from the camera. A frame without the person is all
zeros. Left and right are the person's own.

`sefar_training.joint_archive.write_joints` writes both. The videos need not exist. A model is evaluated only on joints
with the `estimator_sha256` of those that it was trained on.
"""

ROOT = Path(__file__).resolve().parents[2]
FIRST = "TrainConfig"
MODULES = ("recipe", "model", "data", "learning")
"""Modules of the package in the order of the page."""
_LIMITS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def render() -> str:
    """The page as Markdown."""
    package = griffe.load("sefar_training.config", search_paths=[ROOT / "training", ROOT])
    modules = [package.modules[name] for name in MODULES]
    known = {each.name: each for module in modules for each in module.classes.values() if not each.is_alias}
    configs = [each for name, each in known.items() if name.endswith("Config")]
    configs.sort(key=lambda each: each.name != FIRST)
    names = {str(each.name) for each in configs}
    return "\n".join([INTRO, *(_section(each, names) for each in configs), _choices(modules), TRUE_JOINTS])


def _section(config: griffe.Class, names: set[str]) -> str:
    text, meanings = "", {}
    for part in config.docstring.parse("google") if config.docstring else ():
        match part:
            case griffe.DocstringSectionText(value=str(words)):
                text = words
            case griffe.DocstringSectionAttributes(value=attributes):
                meanings = {each.name: each.description for each in attributes}
    rows = []
    for field in config.attributes.values():
        if (
            field.annotation is not None
            and not field.name.startswith(("_", "model_config"))
            and "property" not in field.labels
        ):
            default, limits = _default(field.value)
            kind = str(field.annotation)
            shown = f"[{kind}](#{kind.lower()})" if kind in names else _type(kind)
            rows.append(
                [code(field.name), f"{shown} {limits}".strip(), default, sentence(meanings.get(field.name, ""))]
            )
    return f"## {config.name}\n\n{text}\n\n{table(['Field', 'Type', 'Default', 'Meaning'], rows)}"


def _type(annotation: str) -> str:
    """A type in a few words: a choice of words as these words, any other as it stands in the code."""
    expression = ast.parse(annotation, mode="eval").body
    if isinstance(expression, ast.Subscript) and ast.unparse(expression.value) == "Literal":
        return " or ".join(map(code, ast.literal_eval(expression.slice)))
    return code(annotation)


def _default(value: object) -> tuple[str, str]:
    """A field's default and its limits, from `3`, `Field(default=3, ge=1)` or nothing."""
    if value is None:
        return "required", ""
    expression = ast.parse(str(value), mode="eval").body
    if not (isinstance(expression, ast.Call) and ast.unparse(expression.func) == "Field"):
        return _literal(expression), ""
    named = {each.arg: each.value for each in expression.keywords if each.arg}
    if expression.args:
        named["default"] = expression.args[0]
    limits = ", ".join(f"{sign} {ast.unparse(named[key])}" for key, sign in _LIMITS.items() if key in named)
    if "default_factory" in named:
        return code(f"{ast.unparse(named['default_factory'])}()"), limits
    return _literal(named["default"]) if "default" in named else "required", limits


def _literal(expression: ast.expr) -> str:
    """A default as one would write it in YAML."""
    match expression:
        case ast.Constant(value=None):
            return "null"
        case ast.Constant(value=bool(value)):
            return code(str(value).lower())
        case ast.Constant(value=str(value)) | ast.Call(ast.Name("Path"), [ast.Constant(value=str(value))]):
            return code(value)
        case _:
            return code(ast.unparse(expression))


def _choices(modules: Sequence[griffe.Module]) -> str:
    """Names that stand for a choice of words, such as the methods."""
    rows = []
    for name, each in {name: each for module in modules for name, each in module.attributes.items()}.items():
        value = ast.parse(str(each.value), mode="eval").body
        if isinstance(value, ast.Subscript) and ast.unparse(value.value) == "Literal":
            words = ast.literal_eval(value.slice)
            rows.append(
                [code(name), ", ".join(map(code, words)), sentence(each.docstring.value if each.docstring else "")]
            )
    return f"## Choices\n\n{table(['Type', 'One of', 'Meaning'], rows)}"
