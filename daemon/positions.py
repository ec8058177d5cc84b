"""Where reading begins on a partition that has no committed offset, and where it goes on when frames are gone.

The client would decide both by itself and without a word: it would pass over what was written to a new partition before
it was noticed, or go on behind frames that the broker has deleted. So it is told to raise an error instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import structlog
from kafka import KafkaConsumer, TopicPartition

log = structlog.get_logger(__name__)

Start = Literal["earliest", "latest"]

OFFSETS_TIMEOUT_MS = 5_000
"""Longest wait for the broker to tell offsets. The client's own has no limit, and who does not poll for longer than the
session falls out of a group that is rebalancing."""


@dataclass(frozen=True, slots=True)
class Gone:
    """Frames that no longer exist: ``frames`` of them, as far as their number is known, and where reading goes on."""

    frames: int
    resume: int


class Positions:
    """Decides positions for the consumer of one topic; owned by whoever owns the consumer. All may raise its errors.

    ``latest`` holds for the partitions that a group is given while it has no offset on the whole topic. From then on
    a partition without an offset is one that was added, and is read from its beginning.
    """

    def __init__(self, consumer: KafkaConsumer, topic: str, start: Start) -> None:
        self._consumer = consumer
        self._topic = topic
        self._group_may_be_new = start == "latest"

    def begin(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Seek partitions without an offset to where their reading begins.

        Returns the offsets of those that begin at their end. They have to be committed before anything else: a restart
        would find another end.
        """
        wanted = sorted(partitions)
        if not self._group_is_new():
            for partition in wanted:
                log.info("reading from the beginning", partition=partition.partition)
            self._consumer.seek_to_beginning(*wanted)
            return {}
        ends: dict[TopicPartition, int] = self._consumer.end_offsets(wanted, timeout_ms=OFFSETS_TIMEOUT_MS)
        for partition, end in ends.items():
            log.info("reading from the end, as kafka.start says", partition=partition.partition, offset=end)
            self._consumer.seek(partition, end)
        self._group_may_be_new = False
        return ends

    def resume(self, lost: Mapping[TopicPartition, int]) -> dict[TopicPartition, Gone]:
        """Seek partitions whose position is outside of what is there to their earliest frame.

        ``lost`` has the positions. A partition that is shorter than its position was truncated or made anew: all its
        frames are new.
        """
        first = self._consumer.beginning_offsets(list(lost), timeout_ms=OFFSETS_TIMEOUT_MS)
        gone = {}
        for partition, position in lost.items():
            gone[partition] = Gone(max(0, first[partition] - position), first[partition])
            log.error(
                "frames are gone before they were read"
                if position < first[partition]
                else "the partition is shorter than what was read of it: reading all of it again",
                partition=partition.partition,
                position=position,
                gone=gone[partition].frames,
                resume=first[partition],
                do="see 'When the broker is in trouble' in docs/operations.md",
            )
            self._consumer.seek(partition, first[partition])
        return gone

    def resume_behind_truncation(self, diverged: Mapping[TopicPartition, Any]) -> None:
        """Seek partitions whose leader lost the newest frames, which were read, to the first that differs."""
        for partition, divergence in diverged.items():
            log.error(
                "the broker has lost frames that were read already",
                partition=partition.partition,
                resume=None if divergence is None else divergence.offset,
            )
            if divergence is None:
                self._consumer.seek_to_beginning(partition)
            else:
                self._consumer.seek(partition, divergence.offset)

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
