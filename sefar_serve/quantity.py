"""Numbers of things in messages."""

from __future__ import annotations


def quantity(number: int, noun: str) -> str:
    """A number and its noun, in the plural unless it is 1: ``1 clip``, ``12 clips``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
