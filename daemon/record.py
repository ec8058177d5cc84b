"""A range of the camera topic, read outside every group and in order of arrival."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from kafka import KafkaConsumer, TopicPartition

from daemon.frames import Record, parse_time
from daemon.kafka.session import partitions_of
from engines.errors import UsageError
from engines.recording import RecordedFrame

POLL_MS = 200
"""Longest wait for frames, and so for a stop to be noticed."""

MAX_BUFFERED = 64
"""Frames of one partition that wait for those of others to be put in order: 10 MB of 150 KB frames."""


@dataclass(frozen=True, slots=True)
class Bound:
    """Where a range begins or ends: at the first or the next offset, at an offset of every partition, or at a time.

    ``value`` is the offset, of which a partition that is shorter has only its end, or the time in milliseconds since
    1970, UTC.
    """

    kind: Literal["earliest", "latest", "offset", "time"]
    value: int = 0


def parse_bound(text: str, option: str) -> Bound:
    """What an option says: ``earliest``, ``latest``, an offset, or an RFC 3339 time.

    Raises :class:`UsageError` for anything else.
    """
    if text == "earliest":
        return Bound("earliest")
    if text == "latest":
        return Bound("latest")
    if text.isascii() and text.isdigit():
        return Bound("offset", int(text))
    try:
        return Bound("time", max(0, parse_time(text)))
    except ValueError:
        raise UsageError(
            f"{option} {text}: neither earliest, latest, an offset nor a time as in 2026-11-22T10:00:00Z"
        ) from None


def recorded(record: Record) -> RecordedFrame:
    """A consumer's record as a recording keeps it."""
    return RecordedFrame(
        record.key, record.value, tuple(record.headers), record.timestamp, record.partition, record.offset
    )


class RangeReader:
    """Reads a range of a topic with a consumer that the caller owns, and assigns it the topic's partitions.

    Kafka orders records within a partition only. Here those of all partitions are merged by their timestamps, so that a
    recording can be replayed at its pace.
    """

    def __init__(
        self,
        consumer: KafkaConsumer,
        topic: str,
        *,
        start: Bound,
        until: Bound | None,
        stop: threading.Event,
        keep_out_of_time: bool = False,
    ) -> None:
        """``until`` None reads on until ``stop`` is set. Records among those of the range whose own times lie outside
        are left out, unless ``keep_out_of_time``.

        Raises :class:`daemon.errors.BrokerError` where the topic is missing.
        """
        self._consumer = consumer
        self._stop = stop
        self._keep_out_of_time = keep_out_of_time
        self._partitions = partitions_of(consumer, topic)
        consumer.assign(self._partitions)
        self._ends: dict[TopicPartition, int] = consumer.end_offsets(self._partitions)
        for partition, offset in self._offsets(start).items():
            consumer.seek(partition, offset)
        self._start = start
        self._until = until
        self._stops: dict[TopicPartition, int] | None = None
        self._buffers: dict[TopicPartition, deque[Record]] = {partition: deque() for partition in self._partitions}

    def total(self) -> int | None:
        """How many offsets the range has; None where its end lies in the future."""
        stops = self._stop_offsets()
        if stops is None:
            return None
        return sum(max(0, stops[partition] - int(self._consumer.position(partition))) for partition in self._partitions)

    def in_time(self, record: Record) -> bool:
        """Whether a record lies between the times of the range. Offsets do not tell while one is in the future, nor
        where times do not rise with offsets."""
        first, last = self._start, self._until
        early = first.kind == "time" and record.timestamp < first.value
        late = last is not None and last.kind == "time" and record.timestamp >= last.value
        return not (early or late)

    def __iter__(self) -> Iterator[Record]:
        """The records, until the range ends or a stop is asked for."""
        while not self._stop.is_set():
            yield from self._in_order()
            stops = self._stop_offsets()
            if stops is not None and not any(self._buffers.values()) and not self._open(stops):
                return
            self._fill(stops)

    def _offsets(self, bound: Bound) -> dict[TopicPartition, int]:
        """The offset of each partition at which a bound lies."""
        if bound.kind == "latest":
            return dict(self._ends)
        if bound.kind == "earliest":
            return dict(self._consumer.beginning_offsets(self._partitions))
        if bound.kind == "offset":
            # Outside what a partition holds now the consumer would jump wherever its reset policy says, and an end that
            # a quiet partition never reaches would keep the others waiting.
            first = self._consumer.beginning_offsets(self._partitions)
            return {
                partition: max(first[partition], min(bound.value, self._ends[partition]))
                for partition in self._partitions
            }
        found = self._consumer.offsets_for_times(dict.fromkeys(self._partitions, bound.value))
        ends = self._consumer.end_offsets(self._partitions)
        return {
            partition: ends[partition] if found.get(partition) is None else found[partition].offset
            for partition in self._partitions
        }

    def _stop_offsets(self) -> dict[TopicPartition, int] | None:
        """Where each partition's part of the range ends; None while that is not known yet."""
        if self._stops is None and self._until is not None:
            in_future = self._until.kind == "time" and self._until.value > time.time() * 1000
            if not in_future:
                self._stops = self._offsets(self._until)
        return self._stops

    def _open(self, stops: dict[TopicPartition, int]) -> list[TopicPartition]:
        return [partition for partition in self._partitions if self._consumer.position(partition) < stops[partition]]

    def _fill(self, stops: dict[TopicPartition, int] | None) -> None:
        full = [partition for partition in self._partitions if len(self._buffers[partition]) >= MAX_BUFFERED]
        done = [] if stops is None else [p for p in self._partitions if self._consumer.position(p) >= stops[p]]
        resting = {*full, *done}
        self._consumer.pause(*resting)
        self._consumer.resume(*(partition for partition in self._partitions if partition not in resting))
        for partition, records in self._consumer.poll(timeout_ms=POLL_MS).items():
            end = None if stops is None else stops[partition]
            self._buffers[partition].extend(
                record
                for record in records
                if (end is None or record.offset < end) and (self._keep_out_of_time or self.in_time(record))
            )

    def _in_order(self) -> Iterator[Record]:
        """Records that no record yet to come can precede, as far as timestamps tell."""
        while not any(self._may_follow(partition) for partition in self._partitions if not self._buffers[partition]):
            waiting = [buffer for buffer in self._buffers.values() if buffer]
            if not waiting or self._stop.is_set():
                return
            yield min(waiting, key=lambda buffer: buffer[0].timestamp).popleft()

    def _may_follow(self, partition: TopicPartition) -> bool:
        """Whether the broker has records of this partition that belong to the range and were not read yet."""
        end = max(self._ends[partition], self._consumer.highwater(partition) or 0)
        stops = self._stop_offsets()
        if stops is not None:
            end = min(end, stops[partition])
        return bool(self._consumer.position(partition) < end)
