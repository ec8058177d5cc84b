"""How long to wait before starting over once more."""

from __future__ import annotations

FIRST_S = 1.0
"""The wait before the second attempt in a row; it doubles with each further one. The first one does not wait: most of
what makes the line start over, a rebalance above all, is over by then."""

LONGEST_S = 30.0


class Backoff:
    """Waits between attempts that follow each other without success."""

    def __init__(self) -> None:
        self._failures = 0

    def failed(self) -> float:
        """Seconds to wait after one more failure."""
        self._failures += 1
        return 0.0 if self._failures == 1 else min(LONGEST_S, FIRST_S * 2.0 ** (self._failures - 2))

    def succeeded(self) -> None:
        """Begin again with no wait."""
        self._failures = 0
