"""The examples in the docstrings of the Python API pass mypy's strict checks, as users may paste them."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import sefar_serve
from sefar_serve.model import Model, load

START = "import sefar_serve as sefar\n\nmodel: sefar.Model = sefar.load()\n"


def examples(text: str) -> list[str]:
    """The indented blocks that follow a line which is indented less."""
    body = text.split("\nArgs:")[0]
    return [textwrap.dedent(block) for block in re.findall(r"(?:^ {4}\S.*\n?)+", body, flags=re.MULTILINE)]


def test_the_examples_have_the_right_types(tmp_path: Path) -> None:
    documented = [sefar_serve, load, Model, Model.classify, Model.embed, Model.caption, Model.ask]
    found = [example for each in documented for example in examples(inspect.getdoc(each) or "")]
    assert len(found) >= 6
    functions = [f"def example_{i}() -> None:\n{textwrap.indent(one, '    ')}" for i, one in enumerate(found)]
    file = tmp_path / "examples.py"
    file.write_text(START + "\n".join(functions))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", ".mypy_cache", file], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
