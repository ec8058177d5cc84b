"""Numbers in sentences for people."""

from __future__ import annotations


def counted(number: int, what: str) -> str:
    """``1 frame``, ``2 frames``: a number of things whose name takes an s."""
    return f"{number} {named(number, what)}"


def named(number: int, what: str) -> str:
    """``frame`` for 1, ``frames`` for any other number."""
    return what if number == 1 else f"{what}s"
