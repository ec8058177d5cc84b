"""The account of frames: every one that was taken in is clean, defective, dead, returned or in flight."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """Verdicts that wait for their commit."""

    clean: int = 0
    defective: int = 0
    dead: Counter[str] = field(default_factory=Counter)

    @property
    def frames(self) -> int:
        """How many frames the tally holds."""
        return self.clean + self.defective + self.dead.total()


@dataclass(slots=True)
class Account:
    """What has become of the frames taken in. Owned by the line thread; other threads only read the numbers.

    Verdicts count when they are committed. ``returned`` are frames that were read and given back uncommitted: an
    aborted transaction, a partition that moved.
    """

    taken: int = 0
    clean: int = 0
    defective: int = 0
    dead: Counter[str] = field(default_factory=Counter)
    returned: int = 0

    def commit(self, tally: Tally) -> None:
        """Count verdicts that are now committed."""
        self.clean += tally.clean
        self.defective += tally.defective
        self.dead.update(tally.dead)

    def snapshot(self) -> Account:
        """A copy, for another thread. The frames taken are read last: what settles in between still counts as in
        flight, and the sum is exact."""
        clean, defective, dead, returned = self.clean, self.defective, self.dead.copy(), self.returned
        return Account(self.taken, clean, defective, dead, returned)

    @property
    def settled(self) -> int:
        """Frames whose fate is decided."""
        return self.clean + self.defective + self.dead.total() + self.returned

    def balances(self, in_flight: int) -> bool:
        """Whether the account adds up with this many frames in flight."""
        return self.taken == self.settled + in_flight
