"""What waits for the next commit, and when that commit is due."""

from __future__ import annotations

import time

from kafka import TopicPartition

from daemon.accounting import Tally

MAX_PENDING_BYTES = 16 * 2**20
"""Bytes of records that wait for one commit; dead letters carry whole frames."""


class Pending:
    """Verdicts, input offsets and records since the last commit. Owned by the line thread.

    A frame enters the tally before its record is sent, so that a failed send returns it, and :meth:`finish` when
    everything it caused was sent.
    """

    def __init__(self) -> None:
        self.tally = Tally()
        self.offsets: dict[TopicPartition, int] = {}
        self.appended_ms: list[int] = []
        self._begins = False
        self._bytes = 0
        self._first_frame_at: float | None = None
        self._first_record_at: float | None = None

    def begin(self, partition: TopicPartition, offset: int) -> None:
        """Reading of a partition begins at ``offset``, which is to be committed at once."""
        self.offsets[partition] = offset
        self._begins = True

    def sent(self, size: int) -> None:
        """A record of ``size`` bytes waits."""
        self._bytes += size
        if self._first_record_at is None:
            self._first_record_at = time.monotonic()

    def finish(self, partition: TopicPartition, offset: int, appended_ms: int) -> None:
        """A frame waits: the one at ``offset``, appended to its topic at ``appended_ms`` (ms since 1970, UTC; a record
        without a time has -1)."""
        self.offsets[partition] = offset + 1
        if appended_ms > 0:
            self.appended_ms.append(appended_ms)
        if self._first_frame_at is None:
            self._first_frame_at = time.monotonic()

    def due_at(self, *, interval_s: float, publish_delay_s: float, max_frames: int) -> float:
        """When the commit is due, in monotonic seconds; infinite where nothing waits for one.

        A frame waits for ``interval_s`` at the most, one with a record for ``publish_delay_s``; nothing waits behind
        ``max_frames`` frames or :data:`MAX_PENDING_BYTES`.
        """
        if self._begins:
            return 0.0
        if self._first_frame_at is None:
            return float("inf")
        if self.tally.frames >= max_frames or self._bytes >= MAX_PENDING_BYTES:
            return self._first_frame_at
        due = self._first_frame_at + interval_s
        return due if self._first_record_at is None else min(due, self._first_record_at + publish_delay_s)
