"""How far reading is behind the topic: frames that were not read yet, and how old they are."""

from __future__ import annotations

from collections.abc import Iterable

import structlog
from kafka import KafkaConsumer, TopicPartition
from kafka import errors as kafka_errors

from daemon.kafka import clients

log = structlog.get_logger(__name__)

ENDS_TIMEOUT_MS = 500
"""Longest wait for the broker to tell where partitions end: nothing but the metrics needs it."""


class Backlog:
    """Of one consumer, and owned by whoever owns that."""

    def __init__(self, consumer: KafkaConsumer) -> None:
        self._consumer = consumer
        self._last_read_ms: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}

    def read(self, partition: TopicPartition, appended_ms: int) -> None:
        """The last frame that was read of a partition was appended then (ms since 1970; -1 where it has no time)."""
        self._last_read_ms[partition] = appended_ms

    def read_again(self, partition: TopicPartition) -> None:
        """Reading goes back: how old the last frame is that counts as read is not known."""
        self._last_read_ms.pop(partition, None)

    def forget(self, partition: TopicPartition) -> None:
        """The partition is somebody else's."""
        self._last_read_ms.pop(partition, None)
        self._ends.pop(partition, None)

    def ask_for_ends(self, partitions: Iterable[TopicPartition]) -> None:
        """Ask the broker where the partitions end; for a line that is behind.

        The end comes with each fetch as well, but while frames are at hand there is none, and of small ones thousands
        are. A line that keeps up need not ask, nor should it: the answer would wait behind a fetch that waits for a
        frame. Where no answer comes in time, what was known stays.
        """
        try:
            self._ends = dict(self._consumer.end_offsets(list(partitions), timeout_ms=ENDS_TIMEOUT_MS))
        except kafka_errors.KafkaError as error:
            log.debug("the ends of the partitions are not known", error=f"{type(error).__name__}: {error}")

    def lag(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Frames not read yet, as far as the last fetches and :meth:`ask_for_ends` tell; asks nobody. A partition of
        which neither its end nor the position is known yet is left out."""
        behind = {}
        for partition in set(partitions) & self._consumer.assignment():
            position = clients.next_offset(self._consumer, partition)
            fetched, asked = self._consumer.highwater(partition), self._ends.get(partition)
            ends = [end for end in (fetched, asked) if end is not None]
            if position is not None and ends:
                behind[partition] = max(0, max(ends) - position)
        return behind

    def unread_since_ms(self, behind: Iterable[TopicPartition]) -> int | None:
        """When the frame before the oldest unread one was appended, in ms since 1970, as far as it is known: of each
        partition that has unread frames, which ``behind`` are, the last that was read, of these the oldest. None where
        all are read."""
        known = [self._last_read_ms.get(partition, -1) for partition in behind]
        return min((appended for appended in known if appended >= 0), default=None)
