"""How long to wait before what has failed is tried once more."""

from __future__ import annotations

import time

FIRST_S = 1.0
"""The wait before the second attempt in a row; it doubles with each further one. The first one does not wait: most of
what makes the line start over, a rebalance above all, is over by then."""

LONGEST_S = 30.0

POSTPONE_S = 0.05
"""Wait before a commit that a rebalance postponed is tried again; the polls in between let the rebalance go on."""

REJOIN_S = 5.0
"""How long, beyond the session, a rebalance may postpone commits: it waits for a member that is dead until its session
is over. A broker that lost track of a static member that was killed while it joined would postpone them for ever;
joining anew ends that."""


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


class Postponement:
    """Of commits, by a rebalance that has to go on before they are taken. ``session_s`` is how long the group waits for
    a member that is silent; ``not_before`` the monotonic time of the next attempt."""

    def __init__(self, session_s: float) -> None:
        self._longest_s = session_s + REJOIN_S
        self._since: float | None = None
        self.not_before = 0.0

    def once_more(self) -> bool:
        """A commit was postponed; returns whether that has lasted for too long."""
        now = time.monotonic()
        self.not_before = now + POSTPONE_S
        if self._since is None:
            self._since = now
        return now - self._since > self._longest_s

    def over(self) -> None:
        """A commit was taken, or given up."""
        self._since = None
