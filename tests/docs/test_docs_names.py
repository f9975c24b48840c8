"""Commands, flags, settings, modules and files that the documentation names do exist."""

from __future__ import annotations

import importlib
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from doc_blocks import PAGES, ROOT, blocks, inline_code, prose

from sefar_serve.cli import app
from sefar_serve.settings import Settings

SOURCES = [file for name in ("sefar_serve", "clients", "training", "tests") for file in (ROOT / name).rglob("*.py")]
SCRIPTS = [file for name in ("benchmarks", "examples") for file in (ROOT / name).rglob("*.py")]

OTHERS = {
    "--build-arg",  # docker
    "--enable-prompt-embeds",  # vllm
    "--logprobs-mode",  # vllm
    "--model-config-name",  # tritonserver
    "--model-load-thread-count",  # tritonserver
    "--no-deps",  # pip
    "--set",  # helm
}
"""Flags in running text that are another program's."""

SEPARATORS = {"|", "||", "&", "&&", ";", ">", ")", "do", "done"}


@cache
def sefar() -> Any:
    """The command, made once."""
    return typer.main.get_command(app)


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that words name, and the words after it."""
    command = sefar()
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    return command, words


def flags_of(command: Any) -> set[str]:
    """Every flag of a command; those of `sefar serve` are the settings."""
    flags = {flag for param in command.params for flag in (*param.opts, *param.secondary_opts)} | {"--help", "-h"}
    if command.context_settings.get("ignore_unknown_options"):
        flags |= {"--" + name.replace("_", "-") for name in Settings.model_fields}
    return flags


def calls() -> Iterator[tuple[Path, list[str]]]:
    """Every `sefar …` in shell blocks and code spans, as the words behind `sefar`."""
    for page in PAGES:
        shell = [block.code for block in blocks(page) if block.language in ("bash", "console", "")]
        lines = [line for code in shell for line in code.replace("\\\n", " ").splitlines()]
        for line in [*lines, *inline_code(page)]:
            if re.search(r"\bsefar\b", line):
                lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=True)
                lexer.whitespace_split = True
                try:
                    words = list(lexer)
                except ValueError:  # a line of a longer quotation
                    continue
                for place, word in enumerate(words):
                    if word == "sefar" and words[place + 1 :]:
                        yield page, words[place + 1 :]


def _known(flag: str) -> bool:
    commands = [sefar()]
    while commands:
        command = commands.pop()
        commands += getattr(command, "commands", {}).values()
        if flag in flags_of(command):
            return True
    return any(flag in file.read_text(encoding="utf-8") for file in SCRIPTS)


def test_every_command_and_its_flags_exist() -> None:
    seen = 0
    for page, words in calls():
        if not re.fullmatch(r"[a-z]+", words[0]) and not words[0].startswith("-"):
            continue  # COMMAND, …, or a word of Python
        command, rest = command_of(words)
        where = f"{page.relative_to(ROOT)}: sefar {' '.join(words)}"
        assert rest != words or words[0].startswith("-"), f"{where}: there is no such command"
        for word in rest:
            if word in SEPARATORS:
                break
            if re.match(r"--?[a-z]", word):
                assert word.partition("=")[0] in flags_of(command), f"{where}: there is no such flag"
        seen += 1
    assert seen > 50


def test_every_flag_in_running_text_exists() -> None:
    for page in PAGES:
        for span in inline_code(page):
            if re.match(r"--[a-z]", span):
                flag = re.split(r"[ =…]", span)[0]
                assert flag in OTHERS or _known(flag), f"{page.relative_to(ROOT)}: {span}"


def test_every_variable_exists() -> None:
    settings = {f"SEFAR_{name.upper()}" for name in Settings.model_fields}
    text = "\n".join(file.read_text(encoding="utf-8") for file in SOURCES)
    for page in PAGES:
        for name in set(re.findall(r"\bSEFAR_[A-Z][A-Z_]*[A-Z]\b", page.read_text(encoding="utf-8"))):
            assert name in settings or f'"{name}"' in text, f"{page.relative_to(ROOT)}: {name}"


def test_every_module_and_class_exists() -> None:
    for page in PAGES:
        for span in inline_code(page):
            if re.fullmatch(r"sefar_(serve|training|client|features)(\.\w+)+", span):
                _resolve(span, page)


def _resolve(dotted: str, page: Path) -> None:
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for name in parts[length:]:
            assert hasattr(found, name), f"{page.relative_to(ROOT)}: {dotted} does not exist"
            found = getattr(found, name)
        return
    pytest.fail(f"{page.relative_to(ROOT)}: {dotted} does not exist")


def test_every_file_of_the_repository_exists() -> None:
    tops = r"(?:benchmarks|deploy|docs|examples|model_repository|sefar_serve|training|clients|tests)"
    for page in PAGES:
        for span in inline_code(page):
            for path in re.findall(rf"(?<![\w/.]){tops}/[\w./-]+", span):
                assert (ROOT / path).exists(), f"{page.relative_to(ROOT)}: {path}"


@pytest.mark.parametrize("package", ["sefar_serve", "sefar_training"])
def test_the_table_of_rooms_is_the_one_that_lint_checks(package: str) -> None:
    page = ROOT / "docs" / "explanation" / "architecture.md"
    table = prose(page).split(f"| room of `{package}` | job |")[1].split("\n\n")[0]
    rooms = re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE)
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    [layers] = [each["layers"] for each in contracts if each.get("exhaustive") and each["containers"] == [package]]
    for layer in layers:
        expected = {room.strip() for room in re.split(r"[:|]", layer)}
        here, rooms = rooms[: len(expected)], rooms[len(expected) :]
        assert set(here) == expected
    assert not rooms
