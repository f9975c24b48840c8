"""The generated reference has everything that the code has, and is the same on every machine."""

from __future__ import annotations

import re
from collections.abc import Callable

import cli_page
import copied_pages
import errors_page
import http_page
import metrics_page
import pytest
import recipes_page
import settings_page
from doc_blocks import ROOT

from sefar_serve.api.app import create_app
from sefar_serve.clip import EmptyVideoError
from sefar_serve.engine import EngineOverloadedError
from sefar_serve.engine.fake import FakeEngine
from sefar_serve.settings import Settings

PAGES = [cli_page, errors_page, http_page, metrics_page, recipes_page, settings_page]


@pytest.mark.parametrize("render", [page.render for page in PAGES], ids=[page.__name__ for page in PAGES])
def test_a_page_does_not_depend_on_the_machine(render: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    page = render()
    monkeypatch.setenv("SEFAR_MAX_BATCH", "3")
    monkeypatch.setenv("COLUMNS", "40")
    assert render() == page
    assert str(ROOT) not in page
    assert not re.search(r"<object|0x[0-9a-f]{6}|/home/|/tmp/|Path\(", page)


def test_every_setting_has_its_names_and_its_description() -> None:
    page = settings_page.render()
    for name, field in Settings.model_fields.items():
        entry = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
        assert f"`{settings_page.flag(name)}`" in entry
        assert f"`SEFAR_{name.upper()}`" in entry
        assert field.description
        assert field.description.split()[1] in entry


def test_a_setting_has_its_type_its_limits_and_its_default() -> None:
    page = settings_page.render()
    assert "`--max-batch` · `SEFAR_MAX_BATCH` · integer ≥ 1 · default: `8`" in page
    assert "`--device` · `SEFAR_DEVICE` · `auto` or `cpu` or `cuda` · default: `auto`" in page
    assert "`--job-roots` · `SEFAR_JOB_ROOTS` · comma-separated list of path · default: none" in page


def test_every_command_and_option_is_there() -> None:
    page = cli_page.render()
    for name, command in cli_page.commands():
        section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
        for param in command.params:
            assert param.param_type_name == "argument" or f"`{param.opts[0]}`" in section, (name, param.name)


def test_every_route_is_there_and_every_link_has_a_target() -> None:
    page = http_page.render()
    for path, operations in create_app(Settings(), FakeEngine()).openapi()["paths"].items():
        for method in operations:
            assert f"\n### {method.upper()} {path}\n" in page
    headings = {heading.lower() for heading in re.findall(r"^#+ (\w+)$", page, flags=re.MULTILINE)}
    assert set(re.findall(r"\]\(#(\w+)\)", page)) <= headings


def test_errors_are_found_where_they_are_raised() -> None:
    found = errors_page.errors()
    empty = found[EmptyVideoError.status][EmptyVideoError.code]
    assert empty.params == ["`input`"]
    assert not empty.retry
    assert found[EngineOverloadedError.status][EngineOverloadedError.code].retry
    assert found[401]["invalid_api_key"].when  # answered by a middleware, without an exception
    assert found[413]["too_many_clips"].params == ["`input`", "`messages`"]  # raised with its code as a literal
    assert "decoder_crashed" in found[errors_page.ROW]


def test_every_error_code_is_explained_in_one_sentence() -> None:
    for status, entries in errors_page.errors().items():
        for name, entry in entries.items():
            assert re.fullmatch(r"[A-Z](?:[^.…]|\.\w|e\.g\.)+\.", entry.when), f"{status} {name}: {entry.when!r}"


def test_copied_pages_link_into_the_site() -> None:
    assert copied_pages.on_site("docs/how-to/train.md", "CONTRIBUTING.md", "explanation/contributing.md") == (
        "../how-to/train.md"
    )
    assert copied_pages.on_site("CONTRIBUTING.md", "CHANGELOG.md", "reference/changelog.md") == (
        "../explanation/contributing.md"
    )
    with pytest.raises(ValueError, match="not a page"):
        copied_pages.on_site("Makefile", "CONTRIBUTING.md", "explanation/contributing.md")
