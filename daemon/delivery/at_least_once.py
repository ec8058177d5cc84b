"""At least once: input offsets are committed after everything they caused was acknowledged.

A crash between the acknowledgement and the commit repeats events; a repeated event carries the same id.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kafka import KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka import errors as kafka_errors

from daemon.delivery.base import CommitPostponed, Delivery, DeliveryAborted, Offsets, countdown, dispose, failure

CommitOffsets = Callable[[Mapping[TopicPartition, OffsetAndMetadata], float], None]
"""Commits offsets, and waits for the answer for so many seconds at the most."""


class AtLeastOnce(Delivery):
    """An idempotent producer of its own, and the offsets of the group's consumer.

    ``commit_offsets`` is the consumer's blocking commit; ``name`` is the instance's. No commit takes longer than
    ``timeout_s``.
    """

    commits_while_moving = False

    def __init__(
        self, new_producer: Callable[[], KafkaProducer], commit_offsets: CommitOffsets, *, name: str, timeout_s: float
    ) -> None:
        self._new_producer = new_producer
        self._commit_offsets = commit_offsets
        self._name = name
        self._timeout_s = timeout_s
        self._producer: KafkaProducer | None = None
        self._sent: list[Any] = []

    def open(self) -> None:
        """Make the producer."""
        self._producer = self._new_producer()

    def send(self, topic: str, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]) -> None:
        """Send now; :meth:`commit` waits for the acknowledgement."""
        if self._producer is None:
            raise DeliveryAborted("there is no producer")
        try:
            self._sent.append(self._producer.send(topic, key=key, value=value, headers=headers))
        except kafka_errors.KafkaError as error:
            raise failure(error, self._name) from error

    def commit(self, offsets: Offsets, mark: str = "") -> None:
        """Wait for the acknowledgements, then commit the offsets: all of it within the time that was given."""
        if self._producer is None:
            raise DeliveryAborted("there is no producer")
        left = countdown(self._timeout_s)
        try:
            self._producer.flush(left())
            for future in self._sent:
                future.get(left())
            self._commit_offsets(
                {partition: OffsetAndMetadata(offset, mark, -1) for partition, offset in offsets.items()}, left()
            )
        except kafka_errors.RebalanceInProgressError as error:
            raise CommitPostponed(str(error)) from error
        except kafka_errors.KafkaError as error:
            raise failure(error, self._name) from error
        self._sent.clear()

    def abort(self) -> None:
        """Forget what was sent: it may repeat, under the same ids."""
        self._sent.clear()
        producer, self._producer = self._producer, None
        if producer is not None:
            dispose(producer)

    def close(self) -> None:
        """Release the producer."""
        self.abort()
