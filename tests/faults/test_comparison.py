"""The comparison finds what it is there to find."""

from __future__ import annotations

import pytest

from tests.faults.comparison import Comparison, Verdict, compare
from tests.faults.ledger import KINDS, Ledger, Place

KIND_AT = {
    (0, 0): "defective",
    (0, 1): "clean",
    (0, 2): "no-picture",
    (0, 3): "defective",
    (1, 0): "defective",
    (1, 1): "half-picture",
}
COMMITTED = {0: 4, 1: 2}


class Outcome:
    """A stream that was judged once and rightly, until a test changes something."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.topic: dict[Place, int] = {}
        self.committed = dict(COMMITTED)
        verdicts = {"events": [], "letters": []}
        for number, (place, kind) in enumerate(KIND_AT.items()):
            self.ledger.sent(number, kind)
            self.ledger.acknowledge(number, place)
            self.topic[place] = number
            verdict = KINDS[kind].verdict
            if verdict != "clean":
                verdicts["events" if verdict == "defective" else "letters"].append(Verdict(place, verdict))
        self.events, self.letters = verdicts["events"], verdicts["letters"]

    def compared(self) -> Comparison:
        return compare(self.ledger, self.topic, self.events, self.letters, self.committed)


def counts(found: Comparison) -> tuple[int, int, int, int, int]:
    return found.lost, found.repeated, found.wrong, found.disordered, found.missing


@pytest.fixture
def outcome() -> Outcome:
    return Outcome()


def test_a_stream_that_was_judged_once_and_rightly_is_good(outcome: Outcome) -> None:
    found = outcome.compared()
    assert counts(found) == (0, 0, 0, 0, 0)
    assert found.sent == 6
    assert found.by_kind == {"defective": 3, "clean": 1, "no-picture": 1, "half-picture": 1}
    assert found.good(exactly_once=True)
    assert not found.examples


@pytest.mark.parametrize("which", ["events", "letters"])
def test_a_record_that_is_not_there_is_lost(outcome: Outcome, which: str) -> None:
    gone = getattr(outcome, which).pop()
    found = outcome.compared()
    assert counts(found) == (1, 0, 0, 0, 0)
    assert not found.good(exactly_once=False)
    assert found.examples == [f"lost: {gone.place} has no verdict, and should be {gone.verdict}"]


def test_frames_behind_the_committed_offset_are_lost_even_clean_ones(outcome: Outcome) -> None:
    outcome.committed[0] = 1
    outcome.events = [event for event in outcome.events if event.place != (0, 3)]
    assert counts(outcome.compared()) == (3, 0, 0, 0, 0)


@pytest.mark.parametrize("which", ["events", "letters"])
def test_a_record_that_is_there_twice_is_repeated_and_bad_only_for_exactly_once(outcome: Outcome, which: str) -> None:
    records = getattr(outcome, which)
    records.append(records[-1])
    found = outcome.compared()
    assert counts(found) == (0, 1, 0, 0, 0)
    assert not found.good(exactly_once=True)
    assert found.good(exactly_once=False)


def test_a_clean_frame_with_an_event_is_wrong(outcome: Outcome) -> None:
    outcome.events.insert(1, Verdict((0, 1), "defective"))
    assert counts(outcome.compared()) == (0, 0, 1, 0, 0)


def test_a_dead_letter_with_another_reason_is_wrong(outcome: Outcome) -> None:
    outcome.letters[0] = Verdict((0, 2), "undecodable")
    found = outcome.compared()
    assert counts(found) == (0, 0, 1, 0, 0)
    assert not found.good(exactly_once=False)


def test_a_defective_frame_with_an_event_and_a_dead_letter_is_wrong_and_repeated(outcome: Outcome) -> None:
    outcome.letters.append(Verdict((1, 0), "inference"))
    outcome.letters.sort(key=lambda letter: letter.place)
    assert counts(outcome.compared()) == (0, 1, 1, 0, 0)


def test_a_record_of_a_frame_that_nobody_sent_is_wrong(outcome: Outcome) -> None:
    outcome.events.append(Verdict((0, 99), "defective"))
    assert counts(outcome.compared()) == (0, 0, 1, 0, 0)


def test_a_record_after_that_of_a_later_frame_is_disordered(outcome: Outcome) -> None:
    outcome.events.sort(key=lambda event: -event.place[1])
    found = outcome.compared()
    assert counts(found) == (0, 0, 0, 1, 0)
    assert not found.good(exactly_once=True)


def test_a_frame_without_acknowledgement_counts_as_sent_only_where_the_topic_has_it(outcome: Outcome) -> None:
    for number in (6, 7):
        outcome.ledger.sent(number, "defective")
        outcome.ledger.doubt(number)
    outcome.topic[(1, 2)] = 7
    outcome.committed[1] = 3
    found = outcome.compared()
    assert (found.sent, found.doubtful, found.doubtful_there) == (7, 2, 1)
    assert counts(found) == (1, 0, 0, 0, 0)


def test_a_frame_that_was_acknowledged_and_is_not_on_the_topic_is_missing(outcome: Outcome) -> None:
    del outcome.topic[(1, 1)]
    outcome.letters = [letter for letter in outcome.letters if letter.place != (1, 1)]
    outcome.committed[1] = 1
    found = outcome.compared()
    assert counts(found) == (0, 0, 0, 0, 1)
    assert not found.good(exactly_once=False)
