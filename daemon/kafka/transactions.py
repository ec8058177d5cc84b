"""The steps of a transaction, each with an end.

The client's own (kafka-python 3.0) wait without any limit for a broker that is away, and would hold the thread that
owns the consumer with them: no stop would be heard until the broker came back. Beneath them lies a result that can be
waited for; this is the one place that reaches for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kafka import KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaError, KafkaTimeoutError


def add_offsets(
    producer: KafkaProducer, offsets: Mapping[TopicPartition, OffsetAndMetadata], member: Any, timeout_s: float
) -> None:
    """Make the group's offsets part of the transaction. Raises ``KafkaTimeoutError`` and the client's errors."""
    await_offsets(producer, begin_offsets(producer, offsets, member), timeout_s)


def begin_offsets(producer: KafkaProducer, offsets: Mapping[TopicPartition, OffsetAndMetadata], member: Any) -> Any:
    """Begin to make the group's offsets part of the transaction; :func:`await_offsets` takes what this returns.

    Raises the client's errors. Of a record that was refused already it is the refusal: the client's own error here has
    only its text, and what to do about it goes by its kind.
    """
    manager = producer._transaction_manager
    try:
        begun = manager.send_offsets_to_transaction(offsets, member)
    except KafkaError as error:
        refusal = manager.last_error
        raise refusal if isinstance(refusal, KafkaError) else error from None
    producer._sender.wakeup()
    return begun


def await_offsets(producer: KafkaProducer, begun: Any, timeout_s: float) -> None:
    """Return when the offsets are part of the transaction. Raises ``KafkaTimeoutError`` and the client's errors."""
    _within(producer, begun, timeout_s)


def commit(producer: KafkaProducer, timeout_s: float) -> None:
    """Commit. ``KafkaTimeoutError`` leaves open whether the broker did; the next ``init_transactions`` settles it."""
    _within(producer, producer._transaction_manager.begin_commit(), timeout_s)


def abort(producer: KafkaProducer, timeout_s: float) -> None:
    """Abort. Raises ``KafkaTimeoutError`` and the client's errors."""
    _within(producer, producer._transaction_manager.begin_abort(), timeout_s)


def _within(producer: KafkaProducer, result: Any, timeout_s: float) -> None:
    producer._sender.wakeup()
    if not result.wait(timeout_ms=timeout_s * 1000):
        raise KafkaTimeoutError("the transaction's coordinator did not answer in time")
