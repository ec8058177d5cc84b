"""Dead letters back into the camera topic: each once, in whatever order they are chosen, also after a kill.

Each batch is one transaction. It holds the frames and, as committed offsets of a group of its own, the account of what
was put back (:mod:`daemon.redrive_account`), so the two can only come true together. The rules of
:mod:`daemon.delivery.exactly_once` hold here as well: the transactional id is taken over before the account is read,
a ``read_committed`` consumer reads it, and after a failed transaction its producer is not used any more. The group has
no members; the transactional id alone keeps two runs apart.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog
from kafka import KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka import errors as kafka_errors

from daemon.camera_topic import CameraTopic, ReturningFrame
from daemon.delivery.base import is_fenced
from daemon.errors import BrokerError, FencedError, UncommittedError
from daemon.frames import Record
from daemon.kafka import clients, diagnose
from daemon.kafka.session import partitions_of, session
from daemon.record import Bound, RangeReader
from daemon.redrive_account import MAX_TEXT_BYTES, PartitionAccount
from daemon.returning_frames import ReturningFrames, Unreturnable, reason_of
from daemon.settings import Settings
from engines.errors import UsageError

log = structlog.get_logger(__name__)

MAX_BATCH_FRAMES = 200
MAX_BATCH_BYTES = 4 * 1024 * 1024
"""A batch is one transaction: small enough to be sent long before the transaction's timeout."""

COMMITTED_TIMEOUT_MS = 30_000
"""Longest wait for the account. The client's own has no limit."""

ACCOUNT_KEPT_MS = 7 * 24 * 3600 * 1000
"""Apache Kafka's default of ``offsets.retention.minutes``: how long offsets of a group without members are kept."""

EARLIEST, LATEST = Bound("earliest"), Bound("latest")

NOT_A_LETTER = "not a dead letter: no millwatch-reason"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which letters are put back: those of a range of the dead-letter topic, of some reasons (none: of all), at most
    ``limit``; with ``again`` also those that were put back before, and with ``died_again`` also those of frames that
    died again after they had been put back, which a run without a cure would put back for ever."""

    start: Bound = EARLIEST
    until: Bound = LATEST
    reasons: frozenset[str] = frozenset()
    limit: int | None = None
    again: bool = False
    died_again: bool = False

    def __post_init__(self) -> None:
        # Frames that die again become letters of this topic: a range that is open would never end.
        if self.until.kind == "time" and self.until.value > time.time() * 1000:
            raise UsageError("--until lies in the future: what was put back and died again would be put back for ever")

    def wants(self, reason: str) -> bool:
        """Whether letters of this reason are chosen."""
        return not self.reasons or reason in self.reasons


@dataclass(slots=True)
class Outcome:
    """What became of the letters, by reason; of those left behind, by reason and why (``-`` where there is no reason).

    ``put_back`` counts what is committed, in a dry run what would be.
    """

    put_back: Counter[str] = field(default_factory=Counter)
    put_back_before: Counter[str] = field(default_factory=Counter)
    left_behind: Counter[tuple[str, str]] = field(default_factory=Counter)

    def lines(self, topic: str, *, dry_run: bool) -> list[str]:
        """The sums, and below them a line for each reason."""
        done = f"{'would be ' if dry_run else ''}put back"
        sums = (
            f"{self.put_back.total()} {done} into {topic}, {self.put_back_before.total()} put back before, "
            f"{self.left_behind.total()} left behind"
        )
        lines = [sums]
        for reason in sorted({*self.put_back, *self.put_back_before, *(reason for reason, _ in self.left_behind)}):
            counts = [(self.put_back[reason], done), (self.put_back_before[reason], "put back before")]
            counts += [
                (count, f"left behind: {why}") for (of, why), count in sorted(self.left_behind.items()) if of == reason
            ]
            lines.append(f"  {reason}: " + ", ".join(f"{count} {what}" for count, what in counts if count))
        return lines


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A frame of the batch in hand, and where its letter lies."""

    partition: TopicPartition
    reason: str
    frame: ReturningFrame


@contextmanager
def redriver(
    settings: Settings, selection: Selection, *, dry_run: bool = False, stop: threading.Event | None = None
) -> Iterator[Redriver]:
    """A :class:`Redriver` with its clients, for the length of the context.

    Raises FencedError where another run takes over, BrokerError where the broker refuses or does not answer, UsageError
    where the group of the account holds something else.
    """
    with (
        session(settings, clients.redrive_reader) as consumer,
        _explained(settings),
        CameraTopic(settings) as camera,
    ):
        yield Redriver(settings, consumer, camera, selection, dry_run=dry_run, stop=stop or threading.Event())


class Redriver:
    """Puts the chosen letters back; :func:`redriver` makes one.

    ``outcome`` is true at every moment, also after an error; ``total`` is how many offsets the range has.
    """

    def __init__(
        self,
        settings: Settings,
        consumer: KafkaConsumer,
        camera: CameraTopic,
        selection: Selection,
        *,
        dry_run: bool,
        stop: threading.Event,
    ) -> None:
        """``stop`` ends it early, with what is in hand put back."""
        self._settings = settings
        self._consumer = consumer
        self._camera = camera
        self._selection = selection
        self._returning = ReturningFrames(settings, camera, died_again=selection.died_again)
        self._dry_run = dry_run
        self._batch: list[_Waiting] = []
        self._batch_bytes = 0
        self.outcome = Outcome()
        partitions_of(consumer, settings.kafka.topics.frames)
        if not dry_run:
            camera.take_over()
        self._reader = RangeReader(
            consumer,
            settings.kafka.topics.dead,
            start=selection.start,
            until=selection.until,
            stop=stop,
            keep_out_of_time=True,
        )
        partitions = sorted(consumer.assignment())
        self._starts = {partition: int(consumer.position(partition)) for partition in partitions}
        # From where on every letter of a reason that was seen has been put back, or was before.
        self._unbroken: dict[tuple[TopicPartition, str], int] = {}
        self._unknown: set[TopicPartition] = set()
        self._accounts = {partition: self._account(partition) for partition in partitions}
        self.total = self._reader.total()

    def run(self, on_seen: Callable[[int], None] = lambda _: None) -> Outcome:
        """Put back what was chosen; ``on_seen`` is told how many letters were looked at.

        Raises :class:`UncommittedError` where the account no longer fits beside an offset, and what
        :func:`redriver` names.
        """
        for seen, letter in enumerate(self._reader, 1):
            self._consider(letter)
            on_seen(seen)
            if len(self._batch) >= MAX_BATCH_FRAMES or self._batch_bytes >= MAX_BATCH_BYTES:
                self._put_back()
            if self._chosen() == self._selection.limit:
                break
        self._put_back()
        return self.outcome

    def _chosen(self) -> int:
        return self.outcome.put_back.total() + len(self._batch)

    def _consider(self, letter: Record) -> None:
        reason = reason_of(letter)
        if reason is None:
            if self._reader.in_time(letter):
                self.outcome.left_behind["-", NOT_A_LETTER] += 1
            return
        if not self._selection.wants(reason):
            return
        partition = TopicPartition(letter.topic, letter.partition)
        account = self._accounts[partition]
        before = account.has(reason, letter.offset)
        unbroken = self._unbroken.setdefault((partition, reason), self._starts[partition])
        returned = before
        if self._reader.in_time(letter):
            if before and not self._selection.again:
                self.outcome.put_back_before[reason] += 1
            else:
                returned = self._take(letter, partition, reason) or before
        if returned:
            account.add(reason, unbroken, letter.offset + 1)
        else:
            self._unbroken[partition, reason] = letter.offset + 1

    def _take(self, letter: Record, partition: TopicPartition, reason: str) -> bool:
        """Add a letter's frame to the batch; False where it has to be left behind."""
        try:
            frame = self._returning.frame_of(letter)
        except Unreturnable as why:
            self.outcome.left_behind[reason, str(why)] += 1
            return False
        self._warn_of_a_lost_account(letter, partition)
        self._batch.append(_Waiting(partition, reason, frame))
        self._batch_bytes += frame.size
        return True

    def _put_back(self) -> None:
        """Send the batch and commit its account."""
        if self._batch and not self._dry_run:
            noted = {partition: self._note(partition) for partition in {one.partition for one in self._batch}}
            self._camera.put_back([one.frame for one in self._batch], noted)
        self.outcome.put_back.update(one.reason for one in self._batch)
        self._batch.clear()
        self._batch_bytes = 0

    def _note(self, partition: TopicPartition) -> OffsetAndMetadata:
        account = self._accounts[partition]
        text = account.to_text()
        if len(text) > MAX_TEXT_BYTES:
            raise UncommittedError(
                f"{partition.topic}-{partition.partition}: what was put back lies in {account.range_count()} separate "
                "ranges, too many to be noted beside the group's offset; put back what lies between them first: "
                "--from earliest and --died-again, without --limit and --until"
            )
        return OffsetAndMetadata(account.end, text, -1)

    def _account(self, partition: TopicPartition) -> PartitionAccount:
        group = self._settings.kafka.redrive_group
        noted = self._consumer.committed(partition, metadata=True, timeout_ms=COMMITTED_TIMEOUT_MS)
        if noted is None:
            self._unknown.add(partition)
            return PartitionAccount()
        new_account = f"look into it, then delete the group {group} to begin a new account"
        try:
            account = PartitionAccount.from_text(noted.metadata or "")
        except ValueError:
            raise UsageError(
                f"group {group} has an offset of {partition.topic}-{partition.partition} that redrive did not commit: "
                f"what was put back before is not known; {new_account}"
            ) from None
        end = self._consumer.end_offsets([partition])[partition]
        if account.end > end:
            raise UsageError(
                f"{partition.topic}-{partition.partition} ends at {end}, but letters up to {account.end} were put "
                f"back: this is another topic of the same name; {new_account}"
            )
        return account.retained(self._consumer.beginning_offsets([partition])[partition])

    def _warn_of_a_lost_account(self, letter: Record, partition: TopicPartition) -> None:
        if partition in self._unknown and 0 < letter.timestamp < time.time() * 1000 - ACCOUNT_KEPT_MS:
            self._unknown.discard(partition)
            log.warning(
                "there is no account of earlier runs, and these letters are older than a broker keeps one by default "
                "(offsets.retention.minutes): if they were put back before, they are put back again",
                partition=f"{partition.topic}-{partition.partition}",
            )


@contextmanager
def _explained(settings: Settings) -> Iterator[None]:
    kafka = settings.kafka
    try:
        yield
    except kafka_errors.KafkaError as error:
        if is_fenced(error):
            raise FencedError(
                f"another millwatch redrive of the group {kafka.group} has taken over, or this one stood still for "
                "longer than kafka.transaction_timeout_ms: what it has counted as put back stays so; run one at a time"
            ) from error
        if isinstance(error, kafka_errors.AuthorizationError):
            raise BrokerError(
                f"the broker refused a right ({type(error).__name__}): redrive needs READ on {kafka.topics.dead}, READ "
                f"and WRITE on {kafka.topics.frames}, READ on the group {kafka.redrive_group}, and WRITE and DESCRIBE "
                f"on the transactional id {kafka.redrive_group}"
            ) from error
        if isinstance(error, kafka_errors.MessageSizeTooLargeError | kafka_errors.RecordListTooLargeError):
            raise BrokerError(
                f"topic {kafka.topics.frames} refused a frame for its size: raise its max.message.bytes"
            ) from error
        raise diagnose.explain(error) from error
