"""Which dead letters were put back: a few ranges of offsets for each reason, small enough for an offset's metadata.

Kafka keeps a text beside each committed offset of a group, and commits the two within a transaction. One partition's
account in that text is what makes any order of ranges and reasons put every letter back once.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right

FORMAT = "1"
"""The first word of the text."""

MAX_TEXT_BYTES = 4096
"""Apache Kafka's default of ``offset.metadata.max.bytes``."""

REASON_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}")
"""What a reason is made of; anything else could not be told from the text around it."""

_TEXT = re.compile(rf"{FORMAT}( {REASON_NAME.pattern}=[0-9a-f]+\.[0-9a-f]+(,[0-9a-f]+\.[0-9a-f]+)*)*")


class Offsets:
    """A set of offsets as ranges ``[start, end)``, ascending, never touching."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, start: int, end: int) -> None:
        """Add ``[start, end)``; ranges that it touches become one with it."""
        if start >= end:
            return
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def __contains__(self, offset: int) -> bool:
        at = bisect_right(self._starts, offset) - 1
        return at >= 0 and offset < self._ends[at]

    def ranges(self) -> list[tuple[int, int]]:
        """The ranges, ascending."""
        return list(zip(self._starts, self._ends, strict=True))


class PartitionAccount:
    """What was put back of one partition of the dead-letter topic, by reason.

    A range says that every letter *of its reason* within was put back. Letters of other reasons between them do not
    break it, so a partition that was put back whole has one range per reason.
    """

    def __init__(self) -> None:
        self._by_reason: dict[str, Offsets] = {}

    def has(self, reason: str, offset: int) -> bool:
        """Whether the letter of this reason at this offset was put back."""
        return reason in self._by_reason and offset in self._by_reason[reason]

    def add(self, reason: str, start: int, end: int) -> None:
        """Every letter of this reason in ``[start, end)`` was put back."""
        self._by_reason.setdefault(reason, Offsets()).add(start, end)

    @property
    def end(self) -> int:
        """One past the last offset of any range; 0 where there is none."""
        return max((end for offsets in self._by_reason.values() for _, end in offsets.ranges()), default=0)

    def range_count(self) -> int:
        """How many ranges there are."""
        return sum(len(offsets.ranges()) for offsets in self._by_reason.values())

    def retained(self, first: int) -> PartitionAccount:
        """The same account for letters from offset ``first`` on, where the topic begins by now: what lies before is
        gone for good, and one range says so."""
        account = PartitionAccount()
        for reason, offsets in self._by_reason.items():
            account.add(reason, 0, first)
            for start, end in offsets.ranges():
                account.add(reason, max(start, first), end)
        return account

    def to_text(self) -> str:
        """ASCII: per reason its ranges, each as the gap before it and its length, in hexadecimal."""
        words = [FORMAT]
        for reason, offsets in sorted(self._by_reason.items()):
            before = 0
            steps = []
            for start, end in offsets.ranges():
                steps.append(f"{start - before:x}.{end - start:x}")
                before = end
            if steps:
                words.append(f"{reason}={','.join(steps)}")
        return " ".join(words)

    @classmethod
    def from_text(cls, text: str) -> PartitionAccount:
        """The account of a text. Raises ValueError for a text that is none."""
        if not _TEXT.fullmatch(text):
            raise ValueError("not an account of dead letters that were put back")
        account = cls()
        for word in text.split(" ")[1:]:
            reason, _, steps = word.partition("=")
            at = 0
            for step in steps.split(","):
                gap, _, length = step.partition(".")
                start = at + int(gap, 16)
                at = start + int(length, 16)
                account.add(reason, start, at)
        return account
