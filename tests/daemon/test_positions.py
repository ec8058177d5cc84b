"""Where reading begins and goes on, and what the source makes of it."""

from __future__ import annotations

from typing import Any

import pytest
from kafka import OffsetAndMetadata, TopicPartition
from kafka import errors as kafka_errors

from daemon.positions import Gone, Positions
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
    assert Positions(consumer, TOPIC, "earliest").begin([ZERO, ONE]) == {}
    assert consumer.at_beginning == {ZERO, ONE}


def test_latest_holds_for_a_group_without_any_offset_and_once(consumer: Log) -> None:
    positions = Positions(consumer, TOPIC, "latest")
    assert positions.begin([ZERO]) == {ZERO: 10}
    assert consumer.sought == {ZERO: 10}
    # Whatever comes later was added, even where the commit of the first is not there yet.
    assert positions.begin([ONE]) == {}
    assert consumer.at_beginning == {ONE}


def test_latest_does_not_hold_for_a_partition_that_was_added_while_the_group_was_away(consumer: Log) -> None:
    consumer.committed_offsets[ZERO] = 3
    assert Positions(consumer, TOPIC, "latest").begin([ONE]) == {}
    assert consumer.at_beginning == {ONE}


def test_reading_goes_on_at_the_earliest_frame_and_what_is_gone_is_counted(consumer: Log) -> None:
    gone = Positions(consumer, TOPIC, "earliest").resume({ZERO: 2, ONE: 12})
    # Of a partition that is shorter than what was read nobody knows how much is gone.
    assert gone == {ZERO: Gone(3, 5), ONE: Gone(0, 5)}
    assert consumer.sought == {ZERO: 5, ONE: 5}


def source_of(consumer: Log, start: Any = "earliest") -> FrameSource:
    source = FrameSource(consumer, TOPIC, before_move=lambda: None, after_loss=lambda: None, start=start)
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


def test_frames_that_the_broker_lost_after_they_were_read_are_read_again_from_where_the_log_differs(
    consumer: Log,
) -> None:
    source = source_of(consumer)
    divergence = {ZERO: OffsetAndMetadata(8, "", 1), ONE: None}
    consumer.script = [raising(kafka_errors.LogTruncationError(divergence))]
    assert source.poll(0, 1) == []
    assert consumer.sought == {ZERO: 8}
    assert consumer.at_beginning == {ONE}
