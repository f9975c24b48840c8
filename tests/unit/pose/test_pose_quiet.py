"""Some lines of native code are kept out of stderr; all others, also of errors, get there."""

from __future__ import annotations

import os

import pytest

from sefar_serve.pose.quiet import without_lines


def test_only_the_named_lines_are_dropped(capfd: pytest.CaptureFixture[str]) -> None:
    with without_lines(b"INFO: "):
        os.write(2, b"INFO: Created a delegate.\nERROR: bad model\nINFO: more\nno end")
    os.write(2, b"\nlater: INFO: \n")
    assert capfd.readouterr().err == "ERROR: bad model\nno end\nlater: INFO: \n"


def test_lines_before_an_exception_get_there(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="failed"), without_lines(b"INFO: "):
        os.write(2, b"ERROR: bad model\n")
        raise ValueError("failed")
    assert capfd.readouterr().err == "ERROR: bad model\n"
