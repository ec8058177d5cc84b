"""Numbers in sentences for people."""

from __future__ import annotations


def counted(number: int, what: str) -> str:
    """``1 frame``, ``2 frames``: a number of things whose name takes an s."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
