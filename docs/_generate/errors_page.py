"""reference/errors.md: every error code, read from the exception classes and from where others are raised."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from tables import code, sentence, table

import sefar_serve
from sefar_serve.api.errors import ApiError
from sefar_serve.errors import SefarError

INTRO = """# Error codes

Every error has one shape, OpenAI's: `{"error": {"message", "type", "param", "code"}}`. The `code` is stable across
releases. The message says what is wrong and how to fix it; its wording may change. `param` is the parameter at fault.

If a request has several videos, a video that fails gets the same object in its place. A row of extracted features
has the code in `error_code` and the message in `error`. With *yes* under Retry, the answer can have a `Retry-After`
header, in seconds. Some codes belong to commands, batch jobs or startup and never reach an HTTP client; they are
listed under the status that the gateway would answer with.
"""

PACKAGE = Path(sefar_serve.__path__[0])
_TORCH = PACKAGE / "mllm"
"""Not imported, since it needs torch; its errors are subclasses that keep the code of their base."""

ROW = 0
"""Stands for an HTTP status where a code is only ever in a row."""


@dataclass
class Entry:
    """One code: the parameters at fault, when it happens, and whether a retry can help."""

    params: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    retry: bool = False

    def add(self, param: str | None, text: str) -> None:
        """One more place that it is raised from."""
        for known, new in ((self.params, code(param) if param else ""), (self.texts, text)):
            if new and new not in known:
                known.append(new)


def render() -> str:
    """The page as Markdown."""
    found = errors()
    rows = found.pop(ROW)
    parts = [INTRO]
    for status, entries in sorted(found.items()):
        name = "Client Closed Request" if status == 499 else HTTPStatus(status).phrase
        parts.append(f"## {status} {name}\n\n{_table(entries)}")
    parts.append(f"## Only in rows of features\n\n{_table(rows)}")
    return "\n".join(parts)


def errors() -> dict[int, dict[str, Entry]]:
    """Every code by its HTTP status."""
    found: dict[int, dict[str, Entry]] = defaultdict(lambda: defaultdict(Entry))
    for kind in _classes():
        entry = found[kind.status][kind.code]
        entry.add(kind.param, sentence((kind.__doc__ or "").split("\n\n")[0]))
        entry.retry |= kind.retry_after is not None or "retry_after" in inspect.signature(kind.__init__).parameters
    for status, name, param, message in _raised():
        found[status][name].add(param, message)
    return found


def _table(entries: dict[str, Entry]) -> str:
    rows = (
        [
            code(name),
            ", ".join(entry.params),
            "<br>".join(entry.texts) or sentence(name.replace("_", " ")),
            "yes" if entry.retry else "",
        ]
        for name, entry in sorted(entries.items())
    )
    return table(["Code", "Parameter", "When", "Retry"], rows)


def _classes() -> Iterator[type[SefarError]]:
    """Every public exception class that names its own code."""
    for file in sorted(PACKAGE.rglob("*.py")):
        if _TORCH not in file.parents and re.search(
            r"^class \w+Error\(", file.read_text(encoding="utf-8"), re.MULTILINE
        ):
            relative = file.relative_to(PACKAGE.parent).with_suffix("")
            importlib.import_module(".".join(relative.parts).removesuffix(".__init__"))
    pending = SefarError.__subclasses__()
    while pending:
        kind = pending.pop(0)
        pending[:0] = kind.__subclasses__()
        if "code" in vars(kind) and kind is not ApiError and not kind.__name__.startswith("_"):
            yield kind


def _raised() -> Iterator[tuple[int, str, str | None, str]]:
    """Status, code, parameter and message of errors that are raised with these as literals."""
    for file in sorted(PACKAGE.rglob("*.py")):
        for function in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield from _raised_in(function)


def _raised_in(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[tuple[int, str, str | None, str]]:
    variables: dict[str, ast.expr] = {}
    for node in ast.walk(function):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                variables[name] = value
            case ast.Call(
                ast.Name("ApiError" | "problem") | ast.Attribute(ast.Call(ast.Name("super")), "__init__"),
                [ast.Constant(int(status)), ast.Constant(str(what)), *rest],
            ):
                param = rest[1].value if len(rest) > 1 and isinstance(rest[1], ast.Constant) else None
                yield status, what, param, _message(rest[0], variables)
            case ast.Call(ast.Name("DecodeError" | "_Refusal"), [ast.Constant(str(what)), message]):
                yield ROW, what, None, _message(message, variables)
            case _:
                continue


def _message(expression: ast.expr, variables: dict[str, ast.expr]) -> str:
    """A message as it stands in the code, with an ellipsis for what is filled in; nothing if it is made elsewhere."""
    match expression:
        case ast.Name(id=name) if name in variables:
            return _message(variables[name], {})
        case ast.Constant(value=str(text)):
            return sentence(text)
        case ast.JoinedStr(values=parts) if any(
            isinstance(part, ast.Constant) and part.value.strip(": ") for part in parts
        ):
            return sentence("".join(part.value if isinstance(part, ast.Constant) else "…" for part in parts))
        case _:
            return ""
