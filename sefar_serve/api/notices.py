"""Sentences that are added to an answer's `notice`, after the classifier's own."""

from __future__ import annotations

from dataclasses import replace

from sefar_serve.language.replies import Reply

NO_VIDEO = "The conversation has no video, so the answer is not based on any clip."


def noted(reply: Reply, *sentences: str | None) -> Reply:
    """The reply with these sentences added to its notice; None is skipped."""
    notices = [sentence for sentence in (reply.notice, *sentences) if sentence is not None]
    return replace(reply, notice=" ".join(notices) or None)


def cut_to(wanted: int | None, allowed: int) -> str | None:
    """The notice for a request that asked for more tokens than allowed; None if it did not.

    Args:
        wanted: `max_tokens` of the request; None if it has none.
        allowed: the limit in tokens.
    """
    if wanted is None or wanted <= allowed:
        return None
    return f"max_tokens was lowered from {wanted} to {allowed}, the maximum for this request."
