"""Sentences about an answer that go with it in `notice`, after the classifier's, if that has one."""

from __future__ import annotations

from dataclasses import replace

from sefar_serve.language.replies import Reply

NO_VIDEO = "No video was seen: the conversation has none, so the answer is not about any clip."


def noted(reply: Reply, *sentences: str | None) -> Reply:
    """The reply with these sentences in its notice; None stands for no sentence."""
    said = [sentence for sentence in (reply.notice, *sentences) if sentence is not None]
    return replace(reply, notice=" ".join(said) or None)


def cut_to(wanted: int | None, allowed: int) -> str | None:
    """What to say of an answer that a request wanted longer than is allowed; None if it did not.

    Args:
        wanted: tokens; None if the request does not say.
        allowed: tokens.
    """
    if wanted is None or wanted <= allowed:
        return None
    return f"max_tokens was lowered from {wanted} to {allowed}, the most that this server allows for this request."
