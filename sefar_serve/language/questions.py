"""Checks that a conversation ends with a question: a language model would invent an answer to an empty one."""

from __future__ import annotations

from collections.abc import Iterable

from sefar_serve.language.errors import PromptError


def check_question(texts: Iterable[str]) -> None:
    """Refuse a question without any text, before its video is decoded.

    Args:
        texts: the texts of the last message, including options to choose from.

    Raises:
        PromptError: all of them are blank.
    """
    if not any(map(str.strip, texts)):
        raise PromptError("the last message is empty; ask something")
