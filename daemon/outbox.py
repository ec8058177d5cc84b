"""The outbox: what finished frames cause, sent in their order and committed together with their offsets."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from kafka import TopicPartition

from daemon.accounting import Account
from daemon.deadletters import dead_letter
from daemon.delivery import Delivery, Offsets
from daemon.frames import FrameMeta
from daemon.metrics import Metrics
from daemon.pending import Pending
from daemon.pipeline import Finished, Rejection
from engines.results import Inspection

EncodeEvent = Callable[[FrameMeta, Inspection, int], tuple[bytes, list[tuple[str, bytes]]]]
"""Value and headers of the event of a frame, its inspection and the time of it (ms since 1970, UTC)."""

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
        self.account = Account()
        self.commits = 0

    @property
    def frames(self) -> int:
        """Frames whose verdicts wait for their commit."""
        return self._pending.tally.frames

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
        self._delivery.commit(self._pending.offsets)
        self._metrics.commit_seconds.observe(time.perf_counter() - started)
        now_ms = time.time_ns() // 1_000_000
        for appended_ms in self._pending.appended_ms:
            self._metrics.latency_seconds.observe((now_ms - appended_ms) / 1000)
        self.account.commit(self._pending.tally)
        self.commits += 1
        self._pending = Pending()
        return True

    def give_up(self) -> None:
        """Return what waits for its commit: it will be read again."""
        self.account.returned += self._pending.tally.frames
        self._pending = Pending()

    def reopen(self) -> None:
        """End what the delivery has open and get it ready for use again. Raises the client's errors."""
        self._delivery.abort()
        self._delivery.open()

    def _bury(self, item: Finished, rejection: Rejection) -> None:
        letter = dead_letter(item.frame, rejection, self._policy.max_message_bytes)
        self._pending.tally.dead[rejection.reason] += 1
        self._send(self._policy.dead_topic, letter.key, letter.value, letter.headers)

    def _publish(self, item: Finished, inspection: Inspection) -> None:
        if inspection.defects:
            self._pending.tally.defective += 1
        else:
            self._pending.tally.clean += 1
        if inspection.defects or self._policy.publish_all:
            meta = item.frame.meta
            value, headers = self._encode_event(meta, inspection, item.inspected_at_ms)
            self._send(self._policy.events_topic, meta.camera.encode(), value, headers)

    def _send(self, topic: str, key: bytes | None, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        self._delivery.send(topic, key, value, headers)
        self._pending.sent(len(value))
