"""Readers of committed records: one that watches while the stream runs, and what is read when all is over."""

from __future__ import annotations

import json
import threading
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from daemon.frames import last_header, parse_time
from tests.faults.comparison import Verdict
from tests.faults.ledger import DEFECT, VERDICTS_SEEN, Place
from tests.faults.stream import NUMBER

QUIET_S = 20.0
"""How long nothing may come before a reader takes what it has for everything. It ends sooner where it has reached the
end; what it did not read counts as lost."""


class Witness:
    """Watches events and dead letters become visible, for a program that wants to know how far the stream is.

    Thread ``witness``. Times are in milliseconds since 1970, by this machine's clock, as the daemon's are.
    """

    def __init__(self, bootstrap: str, events: str, dead: str) -> None:
        self._events = events
        # Of each partition the times of inspection, ascending by when they were seen, and when that was.
        self._inspected: dict[int, list[int]] = defaultdict(list)
        self._seen: dict[int, list[int]] = defaultdict(list)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.verdicts = 0
        self.last_at = time.monotonic()
        self._consumer = open_reader(bootstrap, events, dead)
        self._thread = threading.Thread(target=self._watch, name="witness")
        self._thread.start()

    @property
    def judged(self) -> float:
        """How many frames have their verdict, about: clean ones leave no record and are reckoned in."""
        return self.verdicts / VERDICTS_SEEN

    def progress_after(self, partition: int, began_ms: int) -> int | None:
        """When an event was first seen whose frame, of this partition, was inspected after a time; None if never."""
        with self._lock:
            inspected = self._inspected[partition]
            place = bisect_right(inspected, began_ms)
            return self._seen[partition][place] if place < len(inspected) else None

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        try:
            while not self._stop.is_set():
                for partition, records in self._consumer.poll(200).items():
                    now = time.time_ns() // 1_000_000
                    if partition.topic == self._events:
                        self._note(records, now)
                    self.verdicts += len(records)
                    self.last_at = time.monotonic()
        finally:
            self._consumer.close()

    def _note(self, records: list[Any], now_ms: int) -> None:
        with self._lock:
            for record in records:
                event = json.loads(record.value)
                source = _place(event["id"])[0]
                times = self._inspected[source]
                # Batches finish side by side, and so a frame may be inspected a little before the one in front of it.
                times.append(max(times[-1] if times else 0, parse_time(event["inspected_at"])))
                self._seen[source].append(now_ms)


def read_topic(bootstrap: str, topic: str) -> dict[Place, int]:
    """Which frame lies where on the camera topic."""
    return {
        (record.partition, record.offset): int(last_header(tuple(record.headers), NUMBER) or -1)
        for record in _all_of(bootstrap, topic)
    }


def read_events(bootstrap: str, topic: str) -> list[Verdict]:
    """The committed events."""
    return [event_verdict(record) for record in _all_of(bootstrap, topic)]


def read_letters(bootstrap: str, topic: str) -> list[Verdict]:
    """The committed dead letters."""
    return [letter_verdict(record) for record in _all_of(bootstrap, topic)]


def event_verdict(record: Any) -> Verdict:
    """What an event says. One whose defects are not those of the frame that was sent has a verdict of its own."""
    event = json.loads(record.value)
    defects = [(defect["class"], defect["box"], defect["area_px"]) for defect in event["defects"]]
    as_sent = event["verdict"] == "defective" and defects == [DEFECT]
    return Verdict(_place(event["id"]), "defective" if as_sent else f"{event['verdict']} {defects}")


def letter_verdict(record: Any) -> Verdict:
    """What a dead letter says."""
    headers = {name: (value or b"").decode() for name, value in record.headers}
    return Verdict(_place(headers["millwatch-source"]), headers["millwatch-reason"])


@contextmanager
def group_offsets(bootstrap: str, group: str) -> Iterator[KafkaConsumer]:
    """A consumer that may be asked for the group's offsets, and does not join it. It waits for transactions."""
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False, isolation_level="read_committed"
    )
    try:
        yield consumer
    finally:
        consumer.close()


def committed_offsets(consumer: KafkaConsumer, topic: str, partitions: int) -> dict[int, int]:
    """The next offset of each partition."""
    return {number: consumer.committed(TopicPartition(topic, number)) or 0 for number in range(partitions)}


def _place(identity: str) -> Place:
    _, partition, offset = identity.rsplit("-", 2)
    return int(partition), int(offset)


def open_reader(bootstrap: str, *topics: str) -> KafkaConsumer:
    """A ``read_committed`` consumer outside every group, at the beginning of all partitions of these topics."""
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        reconnect_backoff_max_ms=1_000,
        max_partition_fetch_bytes=2**23,
        fetch_max_wait_ms=50,
        allow_auto_create_topics=False,
    )
    partitions = [TopicPartition(topic, number) for topic in topics for number in consumer.partitions_for_topic(topic)]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    return consumer


def _all_of(bootstrap: str, topic: str) -> Iterator[Any]:
    consumer = open_reader(bootstrap, topic)
    try:
        ends = consumer.end_offsets(consumer.assignment())
        last = time.monotonic()
        while time.monotonic() - last < QUIET_S:
            polled = consumer.poll(200)
            for records in polled.values():
                last = time.monotonic()
                yield from records
            if not polled and all(consumer.position(partition) >= end for partition, end in ends.items()):
                return
    finally:
        consumer.close()
