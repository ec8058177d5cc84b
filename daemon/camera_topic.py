"""The camera topic as dead letters go back to it: in transactions, and read where a letter came without its value."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog
from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka import errors as kafka_errors

from daemon.deadletters import record_size
from daemon.delivery.base import dispose, is_fenced
from daemon.frames import Record
from daemon.kafka import clients, transactions
from daemon.kafka.session import partitions_of
from daemon.settings import Settings

log = structlog.get_logger(__name__)

POLL_MS = 200

RECORD_TIMEOUT_S = 30.0
"""Longest wait for one record of the topic."""

ABORT_S = 5.0
"""Longest wait for the broker to take an abort. What it did not take the next run ends."""


@dataclass(frozen=True, slots=True)
class ReturningFrame:
    """A frame on its way back. ``partition`` is the one that it came from."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    partition: int

    @property
    def size(self) -> int:
        """Bytes on the wire, rounded up."""
        return record_size(self.key, self.value, self.headers)


class CameraTopic:
    """A context manager that owns its clients and makes them when they are first needed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topic = settings.kafka.topics.frames
        self._timeout_s = settings.kafka.transaction_timeout_ms / 1000
        self._producer: KafkaProducer | None = None
        self._reader: KafkaConsumer | None = None

    def __enter__(self) -> CameraTopic:
        return self

    def __exit__(self, *_: object) -> None:
        if self._producer is not None:
            dispose(self._producer)
        if self._reader is not None:
            self._reader.close()

    def take_over(self) -> None:
        """Take the transactional id: whoever had it is fenced, and what it left open has ended."""
        self._producer = clients.redrive_producer(self._settings)
        self._producer.init_transactions()

    def put_back(self, frames: Sequence[ReturningFrame], account: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Send the frames and commit the account, both or neither.

        Raises the client's errors; after one nothing more may be sent, for the client keeps offsets whose commit failed
        and would send them with the next transaction.
        """
        producer = self._producer
        if producer is None:
            raise RuntimeError("nothing is put back before take_over")
        producer.begin_transaction()
        try:
            partitions = producer.partitions_for(self._topic)
            sent = [
                producer.send(
                    self._topic,
                    key=frame.key,
                    value=frame.value,
                    headers=frame.headers,
                    # By its key another client's frame might come to a partition that is not its camera's.
                    partition=frame.partition if frame.partition in partitions else None,
                )
                for frame in frames
            ]
            producer.flush(self._timeout_s)
            for future in sent:
                future.get(self._timeout_s)
            transactions.add_offsets(producer, account, self._settings.kafka.redrive_group, self._timeout_s)
            transactions.commit(producer, self._timeout_s)
        except kafka_errors.KafkaError as error:
            if not is_fenced(error):
                _abort(producer)
            raise

    def record_at(self, partition: int, offset: int) -> Record | None:
        """The record at an offset; None where it is gone. Raises ``KafkaTimeoutError`` where the broker is silent."""
        if self._reader is None:
            # One record is wanted of each place, and not what lies behind it.
            self._reader = clients.reader(self._settings, fetch_bytes=1)
        reader, place = self._reader, TopicPartition(self._topic, partition)
        if place not in partitions_of(reader, self._topic):
            return None
        first, end = reader.beginning_offsets([place])[place], reader.end_offsets([place])[place]
        if not first <= offset < end:
            return None
        reader.assign([place])
        reader.seek(place, offset)
        deadline = time.monotonic() + RECORD_TIMEOUT_S
        while time.monotonic() < deadline:
            for record in reader.poll(timeout_ms=POLL_MS, max_records=1).get(place, ()):
                found: Record = record
                return found if found.offset == offset else None
            if reader.position(place) > offset:
                return None
        raise kafka_errors.KafkaTimeoutError(f"the record {self._topic}-{partition}-{offset} did not come")


def _abort(producer: KafkaProducer) -> None:
    try:
        transactions.abort(producer, ABORT_S)
    except kafka_errors.KafkaError as error:
        log.warning("transaction could not be aborted", error=f"{type(error).__name__}: {error}")
