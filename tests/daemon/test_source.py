"""What a source owns when the client tells of a move, of a loss, of nothing, or of something that fails."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import ConsumerRebalanceListener, TopicPartition
from kafka.coordinator.base import MemberState
from kafka.errors import KafkaTimeoutError

from daemon.source import FrameSource

TOPIC = "camera.frames"
ZERO, ONE = TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)


class _Assignment:
    """Where the client keeps what it delivers next."""

    def __init__(self, following: dict[TopicPartition, int]) -> None:
        self._following = following

    def __getitem__(self, partition: TopicPartition) -> SimpleNamespace:
        offset = self._following.get(partition)
        return SimpleNamespace(position=None if offset is None else SimpleNamespace(offset=offset))


class Consumer:
    """As much of the client as a source uses; ``script`` is what happens inside the next polls."""

    def __init__(self) -> None:
        self.member_id = ""
        self.assigned: set[TopicPartition] = set()
        self.committed_offsets: dict[TopicPartition, int] = {}
        self.sought: dict[TopicPartition, int] = {}
        self.timeouts: list[float | None] = []
        self.asked: list[TopicPartition] = []
        self.script: list[Callable[[], dict[TopicPartition, list[Any]] | None]] = []
        self.state = MemberState.UNJOINED
        self.listener: Any = None
        self.joined_again: list[str] = []
        self.ends: dict[TopicPartition, int] = {}
        self.true_ends: dict[TopicPartition, int] | None = None
        self.next: dict[TopicPartition, int] = {}
        self._subscription = SimpleNamespace(assignment=_Assignment(self.next))

    def subscribe(self, topics: list[str], listener: ConsumerRebalanceListener) -> None:
        self.listener = listener

    def poll(self, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[Any]]:
        return self.script.pop(0)() or {} if self.script else {}

    def join(self, member_id: str, *partitions: TopicPartition) -> None:
        """Take part under this id; as the client does, tell only of partitions that are new."""
        self.member_id, self.state = member_id, MemberState.STABLE
        added = set(partitions) - self.assigned
        self.assigned = set(partitions)
        if added:
            self.listener.on_partitions_assigned(added)

    def join_again_unless_leading(self) -> None:
        self.joined_again.append(self.member_id)

    def lose(self) -> None:
        lost, self.assigned, self.member_id, self.state = self.assigned, set(), "", MemberState.UNJOINED
        self.listener.on_partitions_lost(lost)

    def revoke(self, *partitions: TopicPartition) -> None:
        self.assigned -= set(partitions)
        self.listener.on_partitions_revoked(set(partitions))

    def assignment(self) -> set[TopicPartition]:
        return self.assigned

    def end_offsets(self, partitions: list[TopicPartition], timeout_ms: float) -> dict[TopicPartition, int]:
        if self.true_ends is None:
            raise KafkaTimeoutError
        return {partition: self.true_ends[partition] for partition in partitions}

    def highwater(self, partition: TopicPartition) -> int | None:
        return self.ends.get(partition)

    def group_metadata(self) -> SimpleNamespace:
        return SimpleNamespace(member_id=self.member_id, state=self.state)

    def committed(self, partition: TopicPartition, timeout_ms: float | None = None) -> int | None:
        self.timeouts.append(timeout_ms)
        self.asked.append(partition)
        return self.committed_offsets.get(partition)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.sought[partition] = offset

    def close(self, autocommit: bool, timeout_ms: float) -> None:
        self.revoke(*self.assigned)


def record(partition: TopicPartition, offset: int, timestamp: int = 0) -> SimpleNamespace:
    return SimpleNamespace(
        topic=partition.topic,
        partition=partition.partition,
        offset=offset,
        timestamp=timestamp,
        key=None,
        value=b"",
        headers=[],
    )


class Calls:
    """What the source has asked of the line."""

    def __init__(self) -> None:
        self.moves = 0
        self.losses = 0
        self.failure: Exception | None = None

    def before_move(self) -> None:
        self.moves += 1
        if self.failure is not None:
            raise self.failure

    def after_loss(self, reason: str) -> None:
        self.losses += 1


@pytest.fixture
def consumer() -> Consumer:
    return Consumer()


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def source(consumer: Consumer, calls: Calls) -> FrameSource:
    """A source that owns partition 0 as member ``a``."""
    source = FrameSource(consumer, TOPIC, before_move=calls.before_move, after_loss=calls.after_loss)
    source.open()
    consumer.script = [lambda: consumer.join("a", ZERO)]
    source.poll(0, 1)
    return source


def read(source: FrameSource, consumer: Consumer, partition: TopicPartition, offset: int) -> int:
    """Read one frame; returns its epoch."""
    consumer.script = [lambda: {partition: [record(partition, offset)]}]
    ((frame, epoch),) = source.poll(0, 1)
    assert frame.meta.offset == offset
    return epoch


def test_frames_are_owned_while_their_partition_stays(source: FrameSource, consumer: Consumer, calls: Calls) -> None:
    epoch = read(source, consumer, ZERO, 7)
    consumer.script = [lambda: consumer.join("a", ZERO, ONE)]
    source.poll(0, 1)
    assert source.owns(ZERO, epoch)
    assert (source.rebalances, calls.moves, calls.losses) == (2, 0, 0)


def test_frames_of_a_partition_that_moves_are_finished_first_and_owned_no_more(
    source: FrameSource, consumer: Consumer, calls: Calls
) -> None:
    epoch = read(source, consumer, ZERO, 7)
    consumer.script = [lambda: consumer.revoke(ZERO)]
    source.poll(0, 1)
    assert calls.moves == 1
    assert not source.owns(ZERO, epoch)


def test_a_partition_moves_even_if_what_was_to_be_done_before_fails(
    source: FrameSource, consumer: Consumer, calls: Calls
) -> None:
    epoch = read(source, consumer, ZERO, 7)
    calls.failure = RuntimeError("the commit failed")
    consumer.script = [lambda: consumer.revoke(ZERO)]
    with pytest.raises(RuntimeError):
        source.poll(0, 1)
    assert not source.owns(ZERO, epoch)


def test_a_loss_that_the_client_tells_of_counts_once(source: FrameSource, consumer: Consumer, calls: Calls) -> None:
    epoch = read(source, consumer, ZERO, 7)

    def lose_and_join() -> None:
        consumer.lose()
        consumer.join("b", ZERO)

    consumer.script = [lose_and_join]
    source.poll(0, 1)
    assert calls.losses == 1
    assert not source.owns(ZERO, epoch)


def test_a_loss_that_the_client_does_not_tell_of_shows_in_the_member_id(
    source: FrameSource, consumer: Consumer, calls: Calls
) -> None:
    epoch = read(source, consumer, ZERO, 7)
    # The answer to the request to join may come between two polls; what the group gives is known at the end of a poll.
    consumer.member_id, consumer.state = "b", MemberState.REBALANCING
    source.poll(0, 1)
    assert calls.losses == 0
    consumer.script = [lambda: consumer.join("b", ZERO)]
    source.poll(0, 1)
    assert calls.losses == 1
    assert not source.owns(ZERO, epoch)
    source.poll(0, 1)
    assert calls.losses == 1


def test_the_group_is_joined_once_more_under_each_member_id(source: FrameSource, consumer: Consumer) -> None:
    source.poll(0, 1)
    assert consumer.joined_again == ["a"]
    consumer.script = [lambda: consumer.join("b", ZERO)]
    source.poll(0, 1)
    source.poll(0, 1)
    assert consumer.joined_again == ["a", "b"]


def test_closing_finishes_and_commits_nothing(source: FrameSource, calls: Calls) -> None:
    calls.failure = RuntimeError("it would hide why the line ended")
    source.close()
    assert calls.moves == 0


def test_starting_over_reads_again_from_the_committed_offset(source: FrameSource, consumer: Consumer) -> None:
    epoch = read(source, consumer, ZERO, 7)
    consumer.committed_offsets[ZERO] = 5
    source.start_over()
    assert consumer.sought == {ZERO: 5}
    assert not source.owns(ZERO, epoch)
    assert None not in consumer.timeouts


def test_starting_over_before_the_first_commit_passes_over_nothing(source: FrameSource, consumer: Consumer) -> None:
    read(source, consumer, ZERO, 7)
    read(source, consumer, ZERO, 8)
    source.start_over()
    assert consumer.sought == {ZERO: 7}
    consumer.script = [lambda: consumer.join("a", ZERO, ONE)]
    source.poll(0, 1)
    consumer.sought.clear()
    source.start_over()
    assert ONE not in consumer.sought


def test_starting_over_does_not_wait_for_the_offset_of_a_partition_that_was_not_read_yet(
    source: FrameSource, consumer: Consumer
) -> None:
    read(source, consumer, ZERO, 7)
    consumer.script = [lambda: consumer.join("a", ZERO, ONE)]
    source.poll(0, 1)
    source.start_over()
    assert consumer.asked == [ZERO]


def test_after_a_loss_that_the_client_does_not_tell_of_every_partition_is_read_from_its_committed_offset(
    source: FrameSource, consumer: Consumer
) -> None:
    consumer.committed_offsets = {ZERO: 9, ONE: 4}
    consumer.script = [lambda: consumer.join("b", ZERO, ONE)]
    source.poll(0, 1)
    source.start_over()
    assert consumer.sought == {ZERO: 9, ONE: 4}
    consumer.sought.clear()
    source.start_over()
    assert consumer.sought == {}


def test_the_lag_counts_partitions_of_which_nothing_was_read_yet(source: FrameSource, consumer: Consumer) -> None:
    consumer.script = [lambda: consumer.join("a", ZERO, ONE)]
    source.poll(0, 1)
    assert source.lag() == {}
    consumer.ends, consumer.next[ZERO] = {ZERO: 9, ONE: 5}, 8
    assert source.lag() == {0: 1}
    consumer.next[ONE] = 0
    assert source.lag() == {0: 1, 1: 5}
    consumer.revoke(ONE)
    assert source.lag() == {0: 1}


def test_unread_frames_are_at_most_as_old_as_the_last_that_was_read(source: FrameSource, consumer: Consumer) -> None:
    consumer.script = [
        lambda: consumer.join("a", ZERO, ONE),
        lambda: {ZERO: [record(ZERO, 7, 1_000), record(ZERO, 8, 2_000)], ONE: [record(ONE, 3, 1_500)]},
    ]
    consumer.ends = {ZERO: 9, ONE: 4}
    source.poll(0, 1)
    consumer.next.update({ZERO: 9, ONE: 4})
    source.poll(0, 9)
    assert source.unread_since_ms(source.lag()) is None
    consumer.ends[ZERO] = 20
    assert source.unread_since_ms(source.lag()) == 2_000
    # By the lag that is given: it is worked out once for both.
    assert source.unread_since_ms({0: 0, 1: 1}) == 1_500
    consumer.ends[ONE] = 5
    assert source.unread_since_ms(source.lag()) == 1_500
    consumer.committed_offsets.update({ZERO: 7, ONE: 3})
    source.start_over()
    assert source.unread_since_ms(source.lag()) is None


def test_a_record_without_a_time_tells_nothing_of_those_behind_it(source: FrameSource, consumer: Consumer) -> None:
    consumer.script = [lambda: {ZERO: [record(ZERO, 7, -1)]}]
    source.poll(0, 1)
    consumer.ends[ZERO], consumer.next[ZERO] = 20, 8
    assert source.unread_since_ms(source.lag()) is None
    assert source.lag() == {0: 12}


def test_a_line_that_is_behind_asks_where_partitions_end(source: FrameSource, consumer: Consumer) -> None:
    consumer.ends[ZERO], consumer.next[ZERO] = 20, 20
    assert source.lag() == {0: 0}
    consumer.true_ends = {ZERO: 5_000}
    source.ask_for_ends()
    assert source.lag() == {0: 4_980}
    consumer.true_ends = None
    source.ask_for_ends()
    assert source.lag() == {0: 4_980}
    consumer.ends[ZERO] = 6_000
    assert source.lag() == {0: 5_980}
