"""The account of what was put back: a set of offsets per reason that fits into a line of text."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.redrive_account import MAX_TEXT_BYTES, Offsets, PartitionAccount

RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda pair: (pair[0], sum(pair))), max_size=20)
ADDED = st.lists(
    st.tuples(st.sampled_from(["checksum", "too-large", "stale"]), st.integers(0, 60), st.integers(0, 12)), max_size=20
)


def account(added: list[tuple[str, int, int]]) -> PartitionAccount:
    made = PartitionAccount()
    for reason, start, length in added:
        made.add(reason, start, start + length)
    return made


@given(RANGES)
def test_ranges_are_a_set_that_is_as_small_as_can_be(ranges: list[tuple[int, int]]) -> None:
    offsets, expected = Offsets(), set[int]()
    for start, end in ranges:
        offsets.add(start, end)
        expected.update(range(start, end))
    assert {offset for offset in range(80) if offset in offsets} == expected
    found = offsets.ranges()
    assert all(start < end for start, end in found)
    assert all(before[1] < after[0] for before, after in pairwise(found))


@given(ADDED)
def test_an_account_survives_being_written_and_read(added: list[tuple[str, int, int]]) -> None:
    before = account(added)
    after = PartitionAccount.from_text(before.to_text())
    assert after.to_text() == before.to_text()
    assert (after.end, after.range_count()) == (before.end, before.range_count())
    for reason in ("checksum", "too-large", "stale", "empty"):
        assert [after.has(reason, at) for at in range(80)] == [before.has(reason, at) for at in range(80)]


@given(ADDED, st.integers(0, 80))
def test_what_has_left_the_topic_no_longer_takes_room(added: list[tuple[str, int, int]], first: int) -> None:
    before = account(added)
    after = before.retained(first)
    assert after.range_count() <= before.range_count() + 3
    for reason in ("checksum", "too-large", "stale"):
        assert [after.has(reason, at) for at in range(first, 80)] == [before.has(reason, at) for at in range(first, 80)]
    everything = account([("stale", 2 * number, 1) for number in range(1000)])
    assert everything.retained(2000).to_text() == "1 stale=0.7d0"


def test_the_text_is_short_enough_for_hundreds_of_ranges() -> None:
    scattered = account([("unknown-format", 10_000_000 + 1000 * number, 900) for number in range(500)])
    assert len(scattered.to_text()) <= MAX_TEXT_BYTES
    assert account([]).to_text() == "1"
    assert account([("checksum", 16, 2), ("checksum", 20, 10)]).to_text() == "1 checksum=10.2,2.a"


@pytest.mark.parametrize(
    "text", ["", "2", "1 ", "1 checksum", "1 checksum=", "1 checksum=1", "1 A=0.1", "1 a=0.1,", "x"]
)
def test_another_text_is_no_account(text: str) -> None:
    with pytest.raises(ValueError, match="not an account"):
        PartitionAccount.from_text(text)
