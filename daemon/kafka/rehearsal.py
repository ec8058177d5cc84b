"""A rehearsal of exactly-once delivery: does this broker keep what its transactions promise?

It works on a topic and a consumer group of its own, which it deletes, under a transactional id of its own, which the
broker forgets by itself. All three are named like the real ones, with ``.check-`` and a number behind.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka import errors as kafka_errors
from kafka.structs import ConsumerGroupMetadata

from daemon.delivery.base import dispose, is_fenced
from daemon.errors import BrokerError
from daemon.kafka import clients, transactions
from daemon.kafka.diagnose import connected, explain
from daemon.kafka.rights import SCRATCH, Right, of_service, refused_resource
from daemon.settings import Settings

STEP_S = 15.0
"""Longest wait for one answer. A commit is seen within milliseconds, a coordinator that was just elected may take
seconds."""

SETTLE_S = 5.0
"""How long a committed offset may take to be told: the answer to a commit comes before the group knows of it, and on a
busy machine that is more than a moment."""

STILL_MS = 500
"""How long nothing is read before that counts as nothing to read."""

POLL_MS = 200


@dataclass(frozen=True, slots=True)
class _Stage:
    """Where the rehearsal takes place: settings whose instance is its own, and a reader of what is committed."""

    settings: Settings
    reader: KafkaConsumer
    partition: TopicPartition
    group: str

    @contextmanager
    def producer(self) -> Iterator[KafkaProducer]:
        """A producer that has taken over the transactional id."""
        producer = clients.producer(self.settings, transactional=True)
        try:
            producer.init_transactions()
            yield producer
        finally:
            dispose(producer)

    def send(self, producer: KafkaProducer, value: bytes) -> None:
        """Begin a transaction with a record that the broker has acknowledged."""
        producer.begin_transaction()
        producer.send(self.partition.topic, value, partition=0).get(STEP_S)

    def send_committed(self, producer: KafkaProducer, value: bytes) -> None:
        """A transaction of one record."""
        self.send(producer, value)
        transactions.commit(producer, STEP_S)

    def send_offset(self, producer: KafkaProducer, offset: int, member: ConsumerGroupMetadata) -> None:
        """Make an offset part of the transaction."""
        with _needing(Right("Read", "topic", self.partition.topic), Right("Read", "group", self.group)):
            transactions.add_offsets(producer, {self.partition: OffsetAndMetadata(offset, "", -1)}, member, STEP_S)

    def offset(self) -> int | None:
        """The group's committed offset."""
        committed = self.reader.committed(self.partition, timeout_ms=STEP_S * 1000)
        return None if committed is None else int(committed)

    def offset_once(self, expected: int) -> int | None:
        """The group's committed offset, asked for again as long as the expected one may be late: the last answer."""
        deadline = time.monotonic() + SETTLE_S
        while (found := self.offset()) != expected and time.monotonic() < deadline:
            time.sleep(POLL_MS / 1000)
        return found

    def values(self, wait_ms: int) -> list[bytes]:
        """The next committed records, once there are any."""
        with _needing(Right("Read", "topic", self.partition.topic)):
            polled = self.reader.poll(timeout_ms=wait_ms)
        return [record.value for records in polled.values() for record in records]

    def values_until(self, last: bytes) -> list[bytes]:
        """All committed records up to one that must be among them. Raises BrokerError where it is not."""
        self.reader.seek_to_beginning(self.partition)
        values: list[bytes] = []
        deadline = time.monotonic() + STEP_S
        while time.monotonic() < deadline:
            values += self.values(POLL_MS)
            if last in values:
                return values
        raise BrokerError(f"a committed record is not seen by a read_committed reader within {STEP_S:.0f} s")


Check = Callable[[], str]


@contextmanager
def rehearsal(settings: Settings) -> Iterator[list[tuple[str, Check]]]:
    """The checks by name, on a topic that lasts as long as the context.

    Each check can be made whatever became of those before it. It returns what was found and raises BrokerError where
    the broker does not keep what it promises, or refuses. Raises BrokerError where the topic cannot be made, and at the
    end where topic or group cannot be deleted.
    """
    scratch = f"{SCRATCH}{uuid.uuid4().hex[:8]}"
    kafka = settings.kafka
    topic, group = f"{kafka.topics.events}{scratch}", f"{kafka.group}{scratch}"
    own = settings.model_copy(update={"kafka": kafka.model_copy(update={"instance": f"{kafka.instance}{scratch}"})})
    with connected(own) as admin:
        with _needing(Right("Create", "topic", topic)):
            admin.create_topics({topic: {"num_partitions": 1}}, wait_for_metadata=True)
        try:
            reader = clients.reader(own, start="earliest", group=group)
            try:
                stage = _Stage(own, reader, TopicPartition(topic, 0), group)
                reader.assign([stage.partition])
                yield [(name, _bound(check, stage)) for name, check in CHECKS]
            finally:
                reader.close(autocommit=False)
        finally:
            _delete(admin, topic, group)


def _commit(stage: _Stage) -> str:
    with stage.producer() as producer:
        stage.send(producer, b"committed")
        if stage.values(STILL_MS):
            raise BrokerError("a read_committed reader sees a record whose transaction is still open")
        transactions.commit(producer, STEP_S)
    stage.values_until(b"committed")
    return "a committed record is seen, and not before"


def _abort(stage: _Stage) -> str:
    with stage.producer() as producer:
        stage.send(producer, b"aborted")
        transactions.abort(producer, STEP_S)
        stage.send_committed(producer, b"after the aborted one")
    if b"aborted" in stage.values_until(b"after the aborted one"):
        raise BrokerError("a read_committed reader sees a record whose transaction was aborted")
    return "an aborted record is not seen"


def _offsets(stage: _Stage) -> str:
    nobody = ConsumerGroupMetadata(stage.group)
    with stage.producer() as producer:
        stage.send(producer, b"with an offset")
        stage.send_offset(producer, 1, nobody)
        transactions.commit(producer, STEP_S)
    if (found := stage.offset_once(1)) != 1:
        raise BrokerError(
            f"offset 1 was committed in a transaction, and the group is at {found} after {SETTLE_S:.0f} s"
        )
    with stage.producer() as producer:
        stage.send(producer, b"with an aborted offset")
        stage.send_offset(producer, 2, nobody)
        transactions.abort(producer, STEP_S)
    # Asked once: an aborted offset must not be seen even for a moment.
    if (found := stage.offset()) != 1:
        raise BrokerError(f"offset 2 was aborted with its transaction, and the group is at {found} instead of 1")
    return "offsets are committed and aborted with their transaction"


def _membership(stage: _Stage) -> str:
    stranger = ConsumerGroupMetadata(stage.group, generation_id=7, member_id="nobody-of-this-group")
    with stage.producer() as producer:
        stage.send(producer, b"with a stranger's offset")
        try:
            stage.send_offset(producer, 3, stranger)
        except kafka_errors.CommitFailedError:
            return "offsets of an instance that is not of the group are refused"
    raise BrokerError("the broker takes offsets of an instance that is not of the group")


def _fencing(stage: _Stage) -> str:
    with stage.producer() as first:
        stage.send(first, b"from the first")
        with stage.producer() as second:
            try:
                transactions.commit(first, STEP_S)
            except kafka_errors.KafkaError as error:
                if not is_fenced(error):
                    raise
            else:
                raise BrokerError("a producer commits although a second one has taken its transactional id")
            stage.send_committed(second, b"from the second")
    if b"from the first" in stage.values_until(b"from the second"):
        raise BrokerError("a read_committed reader sees a record of a producer that was fenced")
    return "a second producer of the same transactional id shuts out the first"


CHECKS: list[tuple[str, Callable[[_Stage], str]]] = [
    ("commit", _commit),
    ("abort", _abort),
    ("offsets", _offsets),
    ("membership", _membership),
    ("fencing", _fencing),
]


def _bound(check: Callable[[_Stage], str], stage: _Stage) -> Check:
    def bound() -> str:
        rights = [
            Right("Write", "topic", stage.partition.topic),
            Right("Read", "group", stage.group),
            *(right for right in of_service(stage.settings) if right.resource == "transactional-id"),
        ]
        try:
            return check(stage)
        except kafka_errors.KafkaError as error:
            raise explain(error, rights) from error

    return bound


def _delete(admin: KafkaAdminClient, topic: str, group: str) -> None:
    """Delete both. Raises BrokerError for the first that the broker keeps, and says so."""
    with _needing(Right("Delete", "topic", topic)):
        admin.delete_topics([topic])
    with _needing(Right("Delete", "group", group)):
        outcome = admin.delete_groups([group])[group]
    if outcome == kafka_errors.GroupAuthorizationFailedError.__name__:
        raise BrokerError(Right("Delete", "group", group).missing)
    # Without an offset there is no group, and with its only topic the broker may have deleted it.
    if outcome not in ("OK", kafka_errors.GroupIdNotFoundError.__name__):
        raise BrokerError(f"group {group} cannot be deleted ({outcome}): the broker forgets it by itself")


@contextmanager
def _needing(*rights: Right) -> Iterator[None]:
    """Name the right that is missing where the broker refuses; ``rights`` are those that what is done needs."""
    try:
        yield
    except kafka_errors.KafkaError as error:
        if refused_resource(error) is None:
            raise
        raise explain(error, rights) from error
