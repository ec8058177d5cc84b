"""Exactly once: events, dead letters and input offsets in one Kafka transaction.

Three rules keep this client (kafka-python 3.0) from losing or repeating records, all of them found by counting:

* ``init_transactions`` comes before any committed offset is read: it fences a predecessor and ends what it left open.
* A producer whose transaction was aborted after offsets went into it is thrown away. Its pending offsets would ride in
  the next transaction, committing frames whose events were aborted.
* Offsets are never committed with a lost membership. The broker takes a commit without generation and member id
  unfenced, and the partition's new owner would repeat the frames.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from kafka import KafkaProducer, OffsetAndMetadata
from kafka import errors as kafka_errors

from daemon.delivery.base import Delivery, DeliveryAborted, Offsets, countdown, dispose, failure, is_fenced
from daemon.errors import FencedError
from daemon.kafka import transactions

log = structlog.get_logger(__name__)

ABORT_S = 5.0
"""Longest wait for the broker to take an abort. What it did not take the next ``init_transactions`` ends, or the broker
does after the transaction's timeout."""


class ExactlyOnce(Delivery):
    """Transactions of a producer that this delivery owns.

    ``new_producer`` makes a transactional producer, ``membership`` gives the group membership under which frames were
    read (its generation is below 0 where it was lost), and ``name`` is the instance's, for the message that says
    another one has taken it. No commit takes longer than ``timeout_s``.
    """

    commits_while_moving = True

    def __init__(
        self, new_producer: Callable[[], KafkaProducer], membership: Callable[[], Any], *, name: str, timeout_s: float
    ) -> None:
        self._new_producer = new_producer
        self._membership = membership
        self._name = name
        self._timeout_s = timeout_s
        self._producer: KafkaProducer | None = None
        self._in_transaction = False
        self._sent: list[Any] = []

    def open(self) -> None:
        """Make a producer and take over the transactional id. Raises FencedError, or the client's errors."""
        producer = self._new_producer()
        try:
            producer.init_transactions()
        except kafka_errors.KafkaError as error:
            dispose(producer)
            if is_fenced(error):
                raise failure(error, self._name) from error
            raise
        self._producer = producer

    def send(self, topic: str, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]) -> None:
        """Send within the transaction, which begins with its first record."""
        try:
            producer = self._begun()
            self._sent.append(producer.send(topic, key=key, value=value, headers=headers))
        except kafka_errors.KafkaError as error:
            raise failure(error, self._name) from error

    def commit(self, offsets: Offsets, mark: str = "") -> None:
        """Add the offsets, flush, verify, commit: all of it within the time that was given.

        The offsets are on their way while the records are: one after the other, the line would wait for its turn of
        the interpreter once more. Nothing counts before the commit, which comes after every answer.
        """
        left = countdown(self._timeout_s)
        try:
            producer = self._begun()
            member = self._membership()
            if member.generation_id < 0:
                raise DeliveryAborted("the membership of the group was lost")
            committed = {partition: OffsetAndMetadata(offset, mark, -1) for partition, offset in offsets.items()}
            begun = transactions.begin_offsets(producer, committed, member)
            producer.flush(left())
            for future in self._sent:
                future.get(left())
            transactions.await_offsets(producer, begun, left())
            transactions.commit(producer, left())
        except kafka_errors.KafkaError as error:
            raise failure(error, self._name) from error
        self._in_transaction = False
        self._sent.clear()

    def abort(self) -> None:
        """Abort the transaction and throw its producer away; :meth:`open` makes a new one."""
        producer, self._producer = self._producer, None
        in_transaction, self._in_transaction = self._in_transaction, False
        self._sent.clear()
        if producer is None:
            return
        try:
            if in_transaction:
                transactions.abort(producer, min(ABORT_S, self._timeout_s))
        except kafka_errors.KafkaError as error:
            if is_fenced(error):
                raise failure(error, self._name) from error
            log.warning("transaction could not be aborted", error=f"{type(error).__name__}: {error}")
        finally:
            dispose(producer)

    def close(self) -> None:
        """Abort what is open and release the producer."""
        try:
            self.abort()
        except FencedError as error:
            log.warning("closing after the name was lost", error=str(error))

    def _begun(self) -> KafkaProducer:
        if self._producer is None:
            raise DeliveryAborted("there is no producer")
        if not self._in_transaction:
            self._producer.begin_transaction()
            self._in_transaction = True
        return self._producer
