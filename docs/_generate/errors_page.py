"""reference/errors.md: every error code, as the exception classes and the sections `Codes:` of docstrings say."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from tables import code, sentence, table

import sefar_serve
from sefar_serve.api.errors import ApiError
from sefar_serve.errors import SefarError
from sefar_serve.extract.decoders import DecodeError

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

_WITHOUT_CODE = (ApiError, DecodeError)
"""They take their code as an argument."""

_CODE = re.compile(r"^(\w+) \((\d+|row)\): (.+(?:\n +.+)*)$", re.MULTILINE)

ROW = 0
"""Stands for an HTTP status where a code is only ever in a row."""


@dataclass
class Entry:
    """One code: when it happens, the parameters at fault, and whether a retry can help."""

    when: str = ""
    params: list[str] = field(default_factory=list)
    retry: bool = False

    def blame(self, param: str | None) -> None:
        """Add a parameter that can be at fault."""
        if param and code(param) not in self.params:
            self.params.append(code(param))


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
        # Where classes share a code, the one that is named like it describes it.
        if not entry.when or kind.__name__ == kind.code.title().replace("_", "") + "Error":
            entry.when = sentence((kind.__doc__ or "").split("\n\n")[0])
        entry.blame(kind.param)
        entry.retry |= kind.retry_after is not None or "retry_after" in inspect.signature(kind.__init__).parameters
    for status, name, param in _raised():
        found[status][name].blame(param)
    for status, name, when in _described():
        found[status][name].when = when
    return found


def _table(entries: dict[str, Entry]) -> str:
    rows = (
        [code(name), entry.when, ", ".join(entry.params), "yes" if entry.retry else ""]
        for name, entry in sorted(entries.items())
    )
    return table(["Code", "When", "Parameter", "Retry"], rows)


def _classes() -> Iterator[type[SefarError]]:
    """Every public exception class that names its own code."""
    for file in _files():
        if _TORCH not in file.parents and re.search(
            r"^class \w+Error\(", file.read_text(encoding="utf-8"), re.MULTILINE
        ):
            relative = file.relative_to(PACKAGE.parent).with_suffix("")
            importlib.import_module(".".join(relative.parts).removesuffix(".__init__"))
    pending = SefarError.__subclasses__()
    while pending:
        kind = pending.pop(0)
        pending[:0] = kind.__subclasses__()
        if "code" in vars(kind) and kind not in _WITHOUT_CODE and not kind.__name__.startswith("_"):
            yield kind


def _described() -> Iterator[tuple[int, str, str]]:
    """Status, code and meaning from sections `Codes:` of docstrings, for codes without an exception class."""
    for file in _files():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                section = (ast.get_docstring(node) or "").partition("\nCodes:\n")[2].split("\n\n")[0]
                for name, status, when in _CODE.findall(textwrap.dedent(section)):
                    yield ROW if status == "row" else int(status), name, sentence(when)


def _raised() -> Iterator[tuple[int, str, str | None]]:
    """Status, code and parameter of errors that are raised with these as literals."""
    for file in _files():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    ast.Name("ApiError" | "problem"), [ast.Constant(int(status)), ast.Constant(str(what)), *rest]
                ):
                    param = rest[1].value if len(rest) > 1 and isinstance(rest[1], ast.Constant) else None
                    yield status, what, str(param) if param else None
                case ast.Call(ast.Name("DecodeError"), [ast.Constant(str(what)), _]):
                    yield ROW, what, None
                case _:
                    continue


def _files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))
