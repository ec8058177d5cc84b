"""The source of frames: the consumer of the camera topic, what it owns, and what happens when that changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import Any

import structlog
from kafka import ConsumerRebalanceListener, TopicPartition
from kafka import errors as kafka_errors
from kafka.coordinator.base import MemberState

from daemon.backlog import Backlog
from daemon.frames import Frame, frame_of
from daemon.kafka.liveness import BrokerWatch
from daemon.kafka.member import GroupMember
from daemon.positions import OFFSETS_TIMEOUT_MS, Positions, Start

log = structlog.get_logger(__name__)

CLOSE_TIMEOUT_MS = 5_000
"""Longest wait for the consumer's requests to end. A static member does not leave its group: the session's timeout
tells the others, and an instance that is back by then has its partitions still."""

LOSS = "the group gave this instance's partitions away"
"""Why what was read of lost partitions does not count any more."""


class FrameSource:
    """Reads frames and tells which of them still count.

    Every assignment of a partition is an *epoch*. A frame carries the epoch in which it was read; once the partition
    has moved, or reading has started over, the epoch is over and the frame belongs to whoever reads it next.

    Owned by the line thread. The client runs the rebalance callbacks on its own thread, but only while the line thread
    waits inside :meth:`poll` or :meth:`close`, so the two never run at the same time.
    """

    def __init__(
        self,
        consumer: GroupMember,
        topic: str,
        *,
        before_move: Callable[[], None],
        after_loss: Callable[[str], None],
        start: Start = "earliest",
    ) -> None:
        """``before_move`` runs before partitions are given up, ``after_loss`` with the reason when what was read of
        them does not count any more; ``start`` is where a group without offsets begins."""
        self._consumer = consumer
        self._topic = topic
        self._watch = BrokerWatch(consumer, topic)
        self._positions = Positions(consumer, topic, start)
        self._backlog = Backlog(consumer)
        self._epochs: dict[TopicPartition, int] = {}
        self._doubtful: set[TopicPartition] = set()
        self._next_epoch = count(1)
        self._member_id = ""
        self._closing = False
        self._before_move = before_move
        self._after_loss = after_loss
        self.rebalances = 0

    def open(self) -> None:
        """Join the group."""
        self._consumer.subscribe([self._topic], listener=_Listener(self))

    def rejoin(self) -> None:
        """Leave the group's generation and join it again; no frame that was read before counts any more."""
        log.warning("joining the group again")
        self._member_id = ""
        self._forget(self.partitions)
        self._consumer.unsubscribe()
        self.open()

    def close(self) -> None:
        """Release the consumer. Nothing is finished or committed any more: whoever closes has done so, or must not."""
        self._closing = True
        self._consumer.close(autocommit=False, timeout_ms=CLOSE_TIMEOUT_MS)

    def poll(self, timeout_s: float, max_frames: int) -> list[tuple[Frame, int]]:
        """Up to ``max_frames`` frames with their epochs; waits up to ``timeout_s`` for the first."""
        polled = self._read(timeout_s, max_frames)
        for partition, records in polled.items():
            self._positions.read(partition, records[0].offset)
            self._backlog.read(partition, records[-1].timestamp)
        frames = [
            (frame_of(record), self._epochs[partition]) for partition, records in polled.items() for record in records
        ]
        self._look_at_membership()
        return frames

    def _read(self, timeout_s: float, max_frames: int) -> dict[TopicPartition, list[Any]]:
        """What the client has; where it has no position, or one outside of the topic, a new one for the next time."""
        try:
            polled: dict[TopicPartition, list[Any]] = self._consumer.poll(
                timeout_ms=round(timeout_s * 1000), max_records=max_frames
            )
        except kafka_errors.NoOffsetForPartitionError as error:
            self._positions.begin(error.args[0])
        except kafka_errors.OffsetOutOfRangeError as error:
            self._positions.resume(error.args[0])
        except kafka_errors.LogTruncationError as error:
            self._positions.resume_behind_truncation(error.divergent_offsets)
            # What was read behind the place may be in hand still: nothing of it may be committed.
            self._after_loss("the broker has lost frames that were read already")
        else:
            return polled
        return {}

    def take_starts(self) -> dict[TopicPartition, int]:
        """Offsets at which reading has begun and which are to be committed at once."""
        return self._positions.take_starts()

    @property
    def gone(self) -> int:
        """Frames that were deleted before they were read."""
        return self._positions.gone

    def keep_membership(self) -> list[tuple[Frame, int]]:
        """Poll without taking frames, so that the group does not count this instance as stuck.

        A rebalance inside this poll may bring partitions that are not on hold yet; their frames are returned.
        """
        held = self._consumer.assignment()
        self._consumer.pause(*held)
        try:
            return self.poll(0, 1)
        finally:
            self._consumer.resume(*(held & self._consumer.assignment()))

    def owns(self, partition: TopicPartition, epoch: int) -> bool:
        """Whether a frame that was read in this epoch is still this instance's to deliver."""
        return self._epochs.get(partition) == epoch

    @property
    def partitions(self) -> list[TopicPartition]:
        """The partitions that this instance owns."""
        return sorted(self._epochs)

    def ask_for_ends(self) -> None:
        """Ask the broker where the partitions end; for a line that is behind."""
        self._backlog.ask_for_ends(self.partitions)

    def lag(self) -> dict[int, int]:
        """Frames not read yet, by partition, as far as they are known; asks nobody."""
        return {partition.partition: behind for partition, behind in self._backlog.lag(self.partitions).items()}

    def unread_since_ms(self, lag: Mapping[int, int]) -> int | None:
        """When the frame before the oldest unread one was appended, in ms since 1970, as far as it is known; None where
        all are read, by what :meth:`lag` has told."""
        return self._backlog.unread_since_ms(each for each in self.partitions if lag.get(each.partition))

    def trouble(self) -> str | None:
        """What has kept frames from coming for a few seconds; None where nothing does. Asks nobody."""
        return self._watch.trouble(self.partitions)

    def start_over(self) -> None:
        """Read again from the committed offsets; every frame that was read before no longer counts.

        Raises the client's errors, ``KafkaTimeoutError`` above all; then it may be called again.
        """
        for partition in self._consumer.assignment():
            self._epochs[partition] = next(self._next_epoch)
            self._backlog.read_again(partition)
            self._positions.begin_again(partition, doubtful=partition in self._doubtful)
            self._doubtful.discard(partition)

    def marks_of(self, partitions: Iterable[TopicPartition]) -> set[str]:
        """The metadata of the committed offsets of these partitions; errors as in :meth:`start_over`."""
        found = (
            self._consumer.committed(partition, metadata=True, timeout_ms=OFFSETS_TIMEOUT_MS)
            for partition in partitions
        )
        return {committed.metadata for committed in found if committed is not None}

    # ------------------------------------------------------------------ called by the client inside poll and close

    def _assigned(self, partitions: Iterable[TopicPartition]) -> None:
        self.rebalances += 1
        for partition in partitions:
            self._epochs[partition] = next(self._next_epoch)
        log.info("partitions assigned", partitions=[partition.partition for partition in self.partitions])

    def _revoked(self, partitions: Iterable[TopicPartition]) -> None:
        moving = sorted(partitions)
        if not moving:
            return
        log.info("partitions move", partitions=[partition.partition for partition in moving])
        try:
            if not self._closing:
                self._before_move()
        finally:
            self._forget(moving)

    def _lost(self, partitions: Iterable[TopicPartition]) -> None:
        gone = sorted(partitions)
        log.warning("partitions lost", partitions=[partition.partition for partition in gone])
        self._member_id = ""
        self._forget(gone)
        if not self._closing:
            self._after_loss(LOSS)

    def _look_at_membership(self) -> None:
        """Do what is due once the group has taken this instance in under a new member id."""
        member = self._consumer.group_metadata()
        if member.state is not MemberState.STABLE or member.member_id == self._member_id:
            return
        if self._member_id and self._epochs:
            self._suffer_silent_loss()
        self._member_id = member.member_id
        # Somebody in the group has to notice partitions that are added to the topic. That is its leader, which the
        # client knows itself to be once it has assigned partitions. A static member that comes back is given what it
        # had, the leader, too, and cannot tell that it is one (KIP-814, which the client lacks): then nobody looks.
        # Joining once more makes the leader assign anew, at which nothing moves.
        self._consumer.join_again_unless_leading()

    def _suffer_silent_loss(self) -> None:
        """Treat partitions as lost where the group has taken this instance in anew without a word.

        The client tells of a loss only before it asks to join. Where the group puts it out while it is joining, it
        joins once more under a new member id and may be given the same partitions again: to the client nothing has
        changed, though in between another instance may have owned and committed them.
        """
        log.warning("the group had put this instance out", partitions=[each.partition for each in self.partitions])
        for partition in self.partitions:
            self._epochs[partition] = next(self._next_epoch)
        self._doubtful.update(self.partitions)
        self._after_loss(LOSS)

    def _forget(self, partitions: list[TopicPartition]) -> None:
        for partition in partitions:
            self._epochs.pop(partition, None)
            self._doubtful.discard(partition)
            self._positions.forget(partition)
            self._backlog.forget(partition)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, source: FrameSource) -> None:
        self._source = source

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._source._assigned(assigned)

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self._source._revoked(revoked)

    def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        self._source._lost(lost)
