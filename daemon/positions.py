"""Where reading begins on a partition, where it begins again, and where it goes on when frames are gone.

The client would decide by itself and without a word: it would pass over what was written to a new partition before
it was noticed, or go on behind frames that the broker has deleted. So it is told to raise an error instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import structlog
from kafka import KafkaConsumer, TopicPartition

from daemon.kafka import clients

log = structlog.get_logger(__name__)

Start = Literal["earliest", "latest"]

OFFSETS_TIMEOUT_MS = 5_000
"""Longest wait for the broker to tell offsets. The client's own has no limit, and who does not poll for longer than the
session falls out of a group that is rebalancing."""


class Positions:
    """Decides positions for the consumer of one topic; owned by whoever owns the consumer. All may raise its errors.

    ``latest`` holds for the partitions that a group is given while it has no offset on the whole topic. From then on
    a partition without an offset is one that was added, and is read from its beginning.

    ``gone`` counts the frames that were deleted before they were read, each once, however often reading comes to the
    place where they were.
    """

    def __init__(self, consumer: KafkaConsumer, topic: str, start: Start) -> None:
        self._consumer = consumer
        self._topic = topic
        self._group_may_be_new = start == "latest"
        self._first: dict[TopicPartition, int] = {}
        self._starts: dict[TopicPartition, int] = {}
        self._gaps: dict[TopicPartition, range] = {}
        self._shrunk_to: dict[TopicPartition, int] = {}
        self.gone = 0

    def read(self, partition: TopicPartition, offset: int) -> None:
        """A frame was read. The first one is where reading begins again while the group has no offset."""
        self._first.setdefault(partition, offset)

    def take_starts(self) -> dict[TopicPartition, int]:
        """Offsets at which reading has begun and which are to be committed at once."""
        starts, self._starts = self._starts, {}
        return starts

    def forget(self, partition: TopicPartition) -> None:
        """The partition is somebody else's."""
        self._first.pop(partition, None)
        self._starts.pop(partition, None)
        self._shrunk_to.pop(partition, None)

    def begin(self, partitions: Iterable[TopicPartition]) -> None:
        """Seek partitions without an offset to where their reading begins.

        The end of a partition is a start that has to be committed before anything else: a restart would find another.
        """
        wanted = sorted(partitions)
        if not self._group_is_new():
            for partition in wanted:
                log.info("reading from the beginning", partition=partition.partition)
            self._consumer.seek_to_beginning(*wanted)
            return
        ends: dict[TopicPartition, int] = self._consumer.end_offsets(wanted, timeout_ms=OFFSETS_TIMEOUT_MS)
        for partition, end in ends.items():
            log.info("reading from the end, as kafka.start says", partition=partition.partition, offset=end)
            self._consumer.seek(partition, end)
            self._first[partition] = self._starts[partition] = end
        self._group_may_be_new = False

    def begin_again(self, partition: TopicPartition, *, doubtful: bool) -> None:
        """Seek a partition to its committed offset. ``doubtful``: somebody else may have read and committed meanwhile.

        May be called again where it fails.
        """
        first = self._first.get(partition)
        if first is None and not doubtful and partition not in self._shrunk_to:
            # The client finds its place by itself. Where an instance died in the middle of a transaction it has to
            # wait for the broker to end that; the other partitions need not.
            return
        again: int | None = self._consumer.committed(partition, timeout_ms=OFFSETS_TIMEOUT_MS)
        start: int | None = None
        if again is None:
            # A group that starts at the end of the topic would pass over what it has read and not committed.
            start = first
        elif not doubtful and self._is_of_lost_frames(partition, again):
            start = self._shrunk_to[partition]
        if start is not None:
            again = self._starts[partition] = start
        if again is not None:
            self._consumer.seek(partition, again)

    def resume(self, lost: Mapping[TopicPartition, int]) -> None:
        """Seek partitions whose position is outside of what is there to their earliest frame.

        ``lost`` has the positions. A partition that is shorter than its position was truncated or made anew: all its
        frames are new.
        """
        earliest = self._consumer.beginning_offsets(list(lost), timeout_ms=OFFSETS_TIMEOUT_MS)
        for partition, position in lost.items():
            resume = earliest[partition]
            gap, counted = range(position, resume), self._gaps.get(partition, range(0))
            gone = len(gap) - len(range(max(gap.start, counted.start), min(gap.stop, counted.stop)))
            log.error(
                "frames are gone before they were read"
                if position < resume
                else "the partition is shorter than what was read of it: reading all of it again",
                partition=partition.partition,
                position=position,
                gone=gone,
                resume=resume,
                do="see 'When the broker is in trouble' in docs/operations.md",
            )
            self._consumer.seek(partition, resume)
            self.gone += gone
            self._gaps[partition] = gap
            self._starts[partition] = resume
            if position >= resume:
                self._first[partition] = self._shrunk_to[partition] = resume

    def resume_behind_truncation(self, diverged: Mapping[TopicPartition, Any]) -> None:
        """Seek partitions whose leader lost the newest frames, which were read, to the first that differs.

        What was read before it and is not committed is for :meth:`begin_again`.
        """
        for partition in diverged.keys() & self._consumer.assignment():
            divergence = diverged[partition]
            log.error(
                "the broker has lost frames that were read already",
                partition=partition.partition,
                resume=None if divergence is None else divergence.offset,
            )
            if divergence is None:
                self._consumer.seek_to_beginning(partition)
                self._first.pop(partition, None)
            else:
                self._consumer.seek(partition, divergence.offset)
                self._shrunk_to[partition] = divergence.offset
                if partition in self._first:
                    self._first[partition] = min(self._first[partition], divergence.offset)

    def _is_of_lost_frames(self, partition: TopicPartition, committed: int) -> bool:
        """Whether an offset was committed before the partition shrank: what lies before it was not read since."""
        position = clients.next_offset(self._consumer, partition)
        return partition in self._shrunk_to and position is not None and committed > position

    def _group_is_new(self) -> bool:
        if not self._group_may_be_new:
            return False
        numbers = self._consumer.partitions_for_topic(self._topic) or set()
        # A partition that is added has the highest number.
        for number in sorted(numbers):
            partition = TopicPartition(self._topic, number)
            if self._consumer.committed(partition, timeout_ms=OFFSETS_TIMEOUT_MS) is not None:
                self._group_may_be_new = False
                return False
        return True
