"""Where reading begins and goes on, and what the source makes of it."""

from __future__ import annotations

from typing import Any

import pytest
from kafka import OffsetAndMetadata, TopicPartition
from kafka import errors as kafka_errors

from daemon.positions import Positions
from daemon.source import FrameSource
from tests.daemon.test_source import Consumer, record

TOPIC = "camera.frames"
ZERO, ONE = TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)


class Log(Consumer):
    """A client whose topic has two partitions, each with offsets 5 to 9."""

    def __init__(self) -> None:
        super().__init__()
        self.at_beginning: set[TopicPartition] = set()

    def partitions_for_topic(self, topic: str) -> set[int]:
        return {0, 1}

    def end_offsets(self, partitions: list[TopicPartition], timeout_ms: float) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 10)

    def beginning_offsets(self, partitions: list[TopicPartition], timeout_ms: float) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 5)

    def seek_to_beginning(self, *partitions: TopicPartition) -> None:
        self.at_beginning |= set(partitions)


def raising(error: Exception) -> Any:
    def poll() -> None:
        raise error

    return poll


@pytest.fixture
def consumer() -> Log:
    return Log()


def test_a_group_begins_at_the_beginning_by_default(consumer: Log) -> None:
    positions = Positions(consumer, TOPIC, "earliest")
    positions.begin([ZERO, ONE])
    assert positions.take_starts() == {}
    assert consumer.at_beginning == {ZERO, ONE}


def test_latest_holds_for_a_group_without_any_offset_and_once(consumer: Log) -> None:
    positions = Positions(consumer, TOPIC, "latest")
    positions.begin([ZERO])
    assert positions.take_starts() == {ZERO: 10}
    assert consumer.sought == {ZERO: 10}
    # Whatever comes later was added, even where the commit of the first is not there yet.
    positions.begin([ONE])
    assert positions.take_starts() == {}
    assert consumer.at_beginning == {ONE}


def test_latest_does_not_hold_for_a_partition_that_was_added_while_the_group_was_away(consumer: Log) -> None:
    consumer.committed_offsets[ZERO] = 3
    positions = Positions(consumer, TOPIC, "latest")
    positions.begin([ONE])
    assert positions.take_starts() == {}
    assert consumer.at_beginning == {ONE}


def test_reading_goes_on_at_the_earliest_frame_and_what_is_gone_is_counted(consumer: Log) -> None:
    positions = Positions(consumer, TOPIC, "earliest")
    positions.resume({ZERO: 2, ONE: 12})
    # Of a partition that is shorter than what was read nobody knows how much is gone.
    assert positions.gone == 3
    assert positions.take_starts() == {ZERO: 5, ONE: 5}
    assert consumer.sought == {ZERO: 5, ONE: 5}


def source_of(consumer: Log, start: Any = "earliest") -> FrameSource:
    source = FrameSource(consumer, TOPIC, before_move=lambda: None, after_loss=lambda reason: None, start=start)
    source.open()
    consumer.script = [lambda: consumer.join("a", ZERO)]
    source.poll(0, 1)
    return source


def test_the_source_counts_what_is_gone_and_has_the_new_position_committed(consumer: Log) -> None:
    source = source_of(consumer)
    consumer.script = [
        raising(kafka_errors.OffsetOutOfRangeError({ZERO: 2})),
        lambda: {ZERO: [record(ZERO, 5)]},
    ]
    assert source.poll(0, 1) == []
    assert (source.gone, source.take_starts(), source.take_starts()) == (3, {ZERO: 5}, {})
    ((frame, _),) = source.poll(0, 1)
    assert frame.meta.offset == 5


def test_the_end_at_which_reading_began_is_committed_and_survives_a_start_over(consumer: Log) -> None:
    source = source_of(consumer, "latest")
    consumer.script = [raising(kafka_errors.NoOffsetForPartitionError({ZERO}))]
    assert source.poll(0, 1) == []
    assert source.take_starts() == {ZERO: 10}
    consumer.sought.clear()
    source.start_over()
    assert consumer.sought == {ZERO: 10}
    assert source.take_starts() == {ZERO: 10}


def test_frames_that_are_gone_count_once_however_often_reading_comes_to_their_place(consumer: Log) -> None:
    positions = Positions(consumer, TOPIC, "earliest")
    positions.resume({ZERO: 2})
    # The line starts over before the new position is committed; frame 1 had been read, and is gone by now.
    positions.resume({ZERO: 1})
    assert positions.gone == 4
    positions.resume({ZERO: 3})
    assert positions.gone == 4


def truncated(consumer: Log, read: list[int], divergence: OffsetAndMetadata | None) -> tuple[FrameSource, int]:
    """A source of whose frames the broker has lost the newest, and the epoch of those that were read."""
    source = source_of(consumer)
    consumer.script = [lambda: {ZERO: [record(ZERO, offset) for offset in read]}]
    ((_, epoch), *_) = source.poll(0, 9)
    # A partition that has moved in the same poll is nobody's to seek.
    consumer.script = [raising(kafka_errors.LogTruncationError({ZERO: divergence, ONE: divergence}))]
    assert source.poll(0, 1) == []
    return source, epoch


def test_frames_that_the_broker_lost_after_they_were_read_are_read_again_from_where_the_log_differs(
    consumer: Log,
) -> None:
    losses: list[str] = []
    source = FrameSource(consumer, TOPIC, before_move=lambda: None, after_loss=losses.append)
    source.open()
    consumer.script = [
        lambda: consumer.join("a", ZERO),
        raising(kafka_errors.LogTruncationError({ZERO: OffsetAndMetadata(8, "", 1)})),
    ]
    source.poll(0, 1)
    assert source.poll(0, 1) == []
    assert consumer.sought == {ZERO: 8}
    assert losses == ["the broker has lost frames that were read already"]


@pytest.mark.parametrize(("committed", "again", "starts"), [(6, 6, {}), (None, 5, {ZERO: 5}), (9, 8, {ZERO: 8})])
def test_after_the_newest_frames_were_lost_reading_begins_where_they_were_or_with_what_is_not_committed(
    consumer: Log, committed: int | None, again: int, starts: dict[TopicPartition, int]
) -> None:
    source, epoch = truncated(consumer, [5, 6, 7, 8], OffsetAndMetadata(8, "", 1))
    consumer.next[ZERO] = 8
    if committed is not None:
        consumer.committed_offsets[ZERO] = committed
    source.start_over()
    assert consumer.sought == {ZERO: again}
    assert source.take_starts() == starts
    assert not source.owns(ZERO, epoch)


def test_a_place_before_the_committed_offset_is_committed_although_nothing_was_read_yet(consumer: Log) -> None:
    source = source_of(consumer)
    consumer.committed_offsets[ZERO] = 9
    consumer.script = [raising(kafka_errors.LogTruncationError({ZERO: OffsetAndMetadata(8, "", 1)}))]
    source.poll(0, 1)
    consumer.next[ZERO] = 8
    source.start_over()
    assert source.take_starts() == {ZERO: 8}


def test_where_nobody_can_tell_how_many_frames_were_lost_all_are_read_again(consumer: Log) -> None:
    source, _ = truncated(consumer, [5, 6], None)
    source.start_over()
    assert consumer.at_beginning == {ZERO}
    assert consumer.sought == {}


def test_a_partition_that_was_made_anew_is_read_from_its_beginning_although_more_was_committed_of_the_old(
    consumer: Log,
) -> None:
    source = source_of(consumer)
    consumer.script = [
        lambda: {ZERO: [record(ZERO, 499)]},
        raising(kafka_errors.OffsetOutOfRangeError({ZERO: 500})),
        lambda: {ZERO: [record(ZERO, 5)]},
    ]
    for _ in range(3):
        source.poll(0, 1)
    source.take_starts()
    consumer.committed_offsets[ZERO], consumer.next[ZERO] = 500, 6
    source.start_over()
    assert consumer.sought == {ZERO: 5}
    assert source.take_starts() == {ZERO: 5}
    # Once the new position is committed, that counts.
    consumer.committed_offsets[ZERO], consumer.next[ZERO] = 6, 7
    source.start_over()
    assert consumer.sought == {ZERO: 6}
