from __future__ import annotations

import pytest

from sefar_training.markdown import code_block, escape_markdown


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("split jump, 180-degree (FX)", "split jump, 180-degree (FX)"),
        ("a|b", r"a\|b"),
        ("<img> & co", "&lt;img&gt; &amp; co"),
        ("*a* _b_ `c` [d](e)", r"\*a\* \_b\_ \`c\` \[d\](e)"),
        ("a\n# b", r"a \# b"),
        ("- a", r"\- a"),
        ("1. a", r"1\. a"),
        (r"\|", r"\\\|"),
    ],
)
def test_text_stays_text(text: str, escaped: str) -> None:
    assert escape_markdown(text) == escaped


def test_code_may_have_fences() -> None:
    assert code_block("x") == "```\nx\n```"
    assert code_block("````\nx") == "`````\n````\nx\n`````"
