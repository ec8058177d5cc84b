"""Was each frame judged once, and rightly? What was sent against what a ``read_committed`` reader sees.

The truth of what was sent is the camera topic itself, read back with the frame's number in each record: a frame whose
acknowledgement never came lies on it or does not. The ledger says what has to be there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tests.faults.ledger import KINDS, Ledger, Place

EXAMPLES = 20


@dataclass(frozen=True, slots=True)
class Verdict:
    """A committed record: of which frame, and ``defective`` or a dead letter's reason."""

    place: Place
    verdict: str


@dataclass
class Comparison:
    """Counts of frames, but ``repeated``: of records over the first of their frame.

    ``lost`` has no verdict although its kind needs one, or lies behind the group's committed offset when all is over;
    ``wrong`` has another verdict than its kind needs, or is a record of no frame that was ever sent; ``disordered``
    records came after one of a later frame of their partition; ``missing`` was acknowledged and is not on the topic,
    which is the broker's loss; ``doubtful`` was never acknowledged, ``doubtful_there`` of them lie on the topic all the
    same and count as sent.
    """

    sent: int = 0
    by_kind: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    repeated: int = 0
    wrong: int = 0
    disordered: int = 0
    missing: int = 0
    doubtful: int = 0
    doubtful_there: int = 0
    examples: list[str] = field(default_factory=list)

    def good(self, *, exactly_once: bool) -> bool:
        """Whether the promise was kept: at least once may repeat, and then the order of records says nothing."""
        faults = self.lost + self.wrong + self.missing
        return not faults and not (exactly_once and self.repeated + self.disordered)

    def tell(self, what: str) -> None:
        if len(self.examples) < EXAMPLES:
            self.examples.append(what)


def compare(
    ledger: Ledger,
    topic: Mapping[Place, int],
    events: Iterable[Verdict],
    letters: Iterable[Verdict],
    committed: Mapping[int, int],
) -> Comparison:
    """``topic`` is the camera topic as it was read back, ``committed`` the group's next offset of each partition."""
    found = Comparison(
        sent=len(topic),
        by_kind=dict(Counter(ledger.kinds[number] for number in topic.values())),
        doubtful=len(ledger.doubtful),
        doubtful_there=len(ledger.doubtful & set(topic.values())),
    )
    for place, number in ledger.acknowledged.items():
        if topic.get(place) != number:
            found.missing += 1
            found.tell(f"missing: frame {number} was acknowledged at {place}, where the topic has {topic.get(place)}")
    verdicts = {place: Counter[str]() for place in topic}
    for records in (events, letters):
        last: dict[int, int] = {}
        for record in records:
            partition, offset = record.place
            if record.place not in verdicts:
                found.wrong += 1
                found.tell(f"wrong: {record.verdict} of {record.place}, where nothing was sent")
                continue
            verdicts[record.place][record.verdict] += 1
            if offset < last.get(partition, 0):
                found.disordered += 1
                found.tell(f"disordered: {record.verdict} of {record.place} after that of offset {last[partition]}")
            last[partition] = max(offset, last.get(partition, 0))
    for place, number in topic.items():
        _judge(found, place, KINDS[ledger.kinds[number]].verdict, verdicts[place], committed)
    return found


def _judge(found: Comparison, place: Place, right: str, seen: Counter[str], committed: Mapping[int, int]) -> None:
    others = sorted(set(seen) - {right})
    if others:
        found.wrong += 1
        found.tell(f"wrong: {place} is {', '.join(others)}, and should be {right}")
    elif right != "clean" and not seen:
        found.lost += 1
        found.tell(f"lost: {place} has no verdict, and should be {right}")
    elif place[1] >= committed.get(place[0], 0):
        found.lost += 1
        found.tell(f"lost: {place} is not committed; the group stands at {committed.get(place[0], 0)}")
    if seen.total() > 1:
        found.repeated += seen.total() - 1
        found.tell(f"repeated: {place} has {dict(seen)}")
