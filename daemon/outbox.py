"""The outbox: what finished frames cause, sent in their order and committed together with their offsets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from uuid import uuid4

import structlog
from kafka import TopicPartition

from daemon.accounting import Account
from daemon.deadletters import dead_letter
from daemon.delivery import Delivery, DeliveryAborted, Offsets, RecordTooLarge
from daemon.errors import BrokerError
from daemon.frames import FrameMeta
from daemon.metrics import Metrics
from daemon.pending import Pending
from daemon.pipeline import Finished, Rejection
from engines.results import Inspection

log = structlog.get_logger(__name__)

EncodeEvent = Callable[[FrameMeta, Inspection, int, int], tuple[bytes, list[tuple[str, bytes]]]]
"""Value and headers of the event of a frame, its inspection and the time of it (ms since 1970, UTC); the last is the
most bytes that the value may have."""

MarksOf = Callable[[Iterable[TopicPartition]], set[str]]
"""The marks of the committed offsets of partitions, of whoever committed them."""

EVENT_OVERHEAD = 10_240
"""Bytes that an event's key and headers take beside its value at the most: the camera's name is in them twice."""

LEAST_MESSAGE_BYTES = 16_384
"""A broker that does not take records of this size takes no event with its boxes."""

Owns = Callable[[TopicPartition, int], bool]
"""Whether a frame of a partition that was read in an epoch is still this instance's to deliver."""


@dataclass(frozen=True, slots=True)
class OutboxPolicy:
    """What goes where and how it is gathered for commits, as the configuration says. Times are in seconds."""

    events_topic: str
    dead_topic: str
    publish_all: bool
    publish_delay_s: float
    commit_interval_s: float
    commit_max_frames: int
    max_message_bytes: int


class Outbox:
    """Sends through a delivery that it owns, and keeps the account of verdicts. Owned by the line thread."""

    def __init__(self, delivery: Delivery, encode_event: EncodeEvent, policy: OutboxPolicy, metrics: Metrics) -> None:
        self._delivery = delivery
        self._encode_event = encode_event
        self._policy = policy
        self._metrics = metrics
        self._pending = Pending()
        self._doubtful: tuple[Pending, str] | None = None
        self._max_message_bytes = policy.max_message_bytes
        self.account = Account()
        self.commits = 0

    @property
    def frames(self) -> int:
        """Frames whose verdicts wait for their commit, or for the answer to whether it counts."""
        return self._pending.tally.frames + (self._doubtful[0].tally.frames if self._doubtful else 0)

    @property
    def oldest_ms(self) -> int | None:
        """When the oldest of :attr:`frames` was appended to its topic, ms since 1970; None where none waits. Other
        threads may ask."""
        waiting = [self._pending] if self._doubtful is None else [self._pending, self._doubtful[0]]
        return min((ms for each in waiting for ms in tuple(each.appended_ms)), default=None)

    @property
    def commits_while_moving(self) -> bool:
        """Whether :meth:`commit` may be called while partitions move."""
        return self._delivery.commits_while_moving

    def begin(self, starts: Offsets) -> None:
        """Commit these offsets next, at which the reading of their partitions has begun."""
        for partition, offset in starts.items():
            self._pending.begin(partition, offset)

    def deliver(self, finished: list[Finished], owns: Owns) -> None:
        """Send what finished frames cause, in their order; frames that are no longer ours are returned.

        Raises DeliveryAborted, and FencedError or BrokerError where starting over would not help.
        """
        for done, item in enumerate(finished):
            meta = item.frame.meta
            partition = TopicPartition(meta.topic, meta.partition)
            if not owns(partition, item.epoch):
                self.account.returned += 1
                continue
            try:
                # The tally counts the frame before it is sent: whatever fails from here on returns it.
                if isinstance(item.outcome, Rejection):
                    self._bury(item, item.outcome)
                else:
                    self._publish(item, item.outcome)
            except BaseException:
                # This one is in the tally; those behind it have left the pipeline and are nowhere else.
                self.account.returned += len(finished) - done - 1
                raise
            self._pending.finish(partition, meta.offset, meta.timestamp_ms)

    def due_at(self, *, behind: bool, worked_off: bool) -> float:
        """When the next commit is due, in monotonic seconds; infinite where nothing waits for one.

        While the line is ``behind``, events wait for the next commit as clean frames do: one that waited behind half a
        pipeline of frames is not worth a commit of its own, which costs this process and its broker as much as
        inspecting two frames. A backlog that is ``worked_off`` has nothing to share a commit with.
        """
        policy = self._policy
        return self._pending.due_at(
            interval_s=0.0 if worked_off else policy.commit_interval_s,
            publish_delay_s=policy.commit_interval_s if behind else policy.publish_delay_s,
            max_frames=policy.commit_max_frames,
        )

    def commit(self) -> bool:
        """Commit what was sent, with its offsets; returns whether there was anything.

        Raises DeliveryAborted, CommitPostponed, and FencedError or BrokerError where neither would help.
        """
        if not self._pending.offsets:
            return False
        started = time.perf_counter()
        mark = uuid4().hex
        try:
            self._delivery.commit(self._pending.offsets, mark)
        except RecordTooLarge:
            self._lower_limit()
            raise
        except DeliveryAborted:
            # The broker may have taken it all the same, where only its answer was lost.
            self._doubtful, self._pending = (self._pending, mark), Pending()
            raise
        self._metrics.commit_seconds.observe(time.perf_counter() - started)
        committed, self._pending = self._pending, Pending()
        self._count(committed)
        return True

    def give_up(self) -> None:
        """Return what waits for its commit: it will be read again. What is in doubt stays so until :meth:`settle`.

        Ends what the delivery has open at once: while the line waits before it begins again, an open transaction would
        hold up every reader of committed records, and the broker would fence it.
        """
        self.account.returned += self._pending.tally.frames
        self._pending = Pending()
        self._delivery.abort()

    def settle(self, marks_of: MarksOf) -> None:
        """Count the verdicts whose commit is in doubt: as committed where an offset bears its mark, else as returned.

        Once the delivery is open again the broker has decided. Raises what ``marks_of`` raises, and may then be called
        again.
        """
        if self._doubtful is None:
            return
        pending, mark = self._doubtful
        if mark in marks_of(pending.offsets):
            log.info("the broker had taken the commit whose answer was lost", frames=pending.tally.frames)
            self._count(pending)
        else:
            self.account.returned += pending.tally.frames
        self._doubtful = None

    def reopen(self) -> None:
        """End what the delivery has open and get it ready for use again. Raises the client's errors."""
        self._delivery.abort()
        self._delivery.open()

    def _count(self, committed: Pending) -> None:
        now_ms = time.time_ns() // 1_000_000
        for appended_ms in committed.appended_ms:
            self._metrics.latency_seconds.observe((now_ms - appended_ms) / 1000)
        self.account.commit(committed.tally)
        self.commits += 1

    def _bury(self, item: Finished, rejection: Rejection) -> None:
        letter = dead_letter(item.frame, rejection, self._max_message_bytes)
        self._pending.tally.dead[rejection.reason] += 1
        self._send(self._policy.dead_topic, letter.key, letter.value, letter.headers)

    def _publish(self, item: Finished, inspection: Inspection) -> None:
        if inspection.defects:
            self._pending.tally.defective += 1
        else:
            self._pending.tally.clean += 1
        if inspection.defects or self._policy.publish_all:
            meta = item.frame.meta
            limit = self._max_message_bytes - EVENT_OVERHEAD
            value, headers = self._encode_event(meta, inspection, item.inspected_at_ms, limit)
            self._send(self._policy.events_topic, meta.camera.encode(), value, headers)

    def _send(self, topic: str, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]) -> None:
        try:
            self._delivery.send(topic, key, value, headers)
        except RecordTooLarge:
            self._lower_limit()
            raise
        self._pending.sent(len(value or b""))

    def _lower_limit(self) -> None:
        """Make records smaller from now on: the broker does not say how large they may be."""
        self._max_message_bytes //= 2
        if self._max_message_bytes < LEAST_MESSAGE_BYTES:
            raise BrokerError(
                f"the broker refuses records of {2 * self._max_message_bytes} bytes: raise max.message.bytes of the "
                "events and dead topics"
            )
        log.warning(
            "the broker takes smaller records than kafka.max_message_bytes says: leaving out more",
            limit=self._max_message_bytes,
            do="set kafka.max_message_bytes to the least max.message.bytes of the events and dead topics",
        )
