"""Topics of a test's own on a broker that many tests share, and what is read from and written to them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import CoordinatorLoadInProgressError, CoordinatorNotAvailableError

from daemon.settings import Settings, load_settings

PATIENCE_S = 30.0
QUIET_S = 1.0


class NotUtf8(str):
    """A header's name that is sent as bytes that are not UTF-8."""

    def encode(self, *_: Any, **__: Any) -> bytes:
        return b"caf\xe9"


@dataclass(frozen=True)
class Lane:
    """Three topics and a group that no other test uses."""

    bootstrap: str
    name: str

    @property
    def frames(self) -> str:
        return f"{self.name}.frames"

    @property
    def events(self) -> str:
        return f"{self.name}.events"

    @property
    def dead(self) -> str:
        return f"{self.name}.dead"

    @property
    def overrides(self) -> list[str]:
        """What ``--set`` takes to run on this lane."""
        return [
            f"kafka.bootstrap={self.bootstrap}",
            f"kafka.group={self.name}",
            f"kafka.instance={self.name}-1",
            f"kafka.topics.frames={self.frames}",
            f"kafka.topics.events={self.events}",
            f"kafka.topics.dead={self.dead}",
            "kafka.session_timeout_ms=6000",
            "kafka.heartbeat_interval_ms=1000",
            "http.port=0",
        ]

    def settings(self, *more: str, config: Path | None = None) -> Settings:
        return load_settings(config, [*self.overrides, *more])

    def send(self, values: Iterable[bytes | None], partitions: int = 4, **headers: str) -> int:
        """Put frames on the camera topic, one partition after the other; returns how many."""
        producer = KafkaProducer(bootstrap_servers=self.bootstrap, max_request_size=2**24)
        sent = [
            producer.send(
                self.frames,
                value,
                key=b"cam-1",
                partition=number % partitions,
                headers=[(name.replace("_", "-"), text.encode()) for name, text in headers.items()],
            )
            for number, value in enumerate(values)
        ]
        for future in sent:
            future.get(PATIENCE_S)
        producer.close()
        return len(sent)

    def committed(self, topic: str, enough: Callable[[list[Any]], bool], *, whole: bool = True) -> list[Any]:
        """The committed records of a topic, once there are enough; where the ``whole`` topic is wanted, once there is
        nothing behind them. Where a transaction is open its end is waited for, for a second."""
        consumer = KafkaConsumer(
            bootstrap_servers=self.bootstrap,
            isolation_level="read_committed",
            max_partition_fetch_bytes=2**24,
            fetch_max_wait_ms=50,
        )

        def all_read() -> bool:
            # Not up to the last stable offset: of the newest transaction the broker may not have written the end yet.
            ends = {partition: consumer.highwater(partition) for partition in partitions}
            at_end = all(end is not None and consumer.position(partition) >= end for partition, end in ends.items())
            return at_end or time.monotonic() - last >= QUIET_S

        try:
            partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
            consumer.assign(partitions)
            consumer.seek_to_beginning(*partitions)
            records: list[Any] = []
            last = time.monotonic()
            deadline = last + PATIENCE_S
            while time.monotonic() < deadline:
                polled = consumer.poll(100)
                for each in polled.values():
                    records += each
                    last = time.monotonic()
                if enough(records) and (not whole or (not polled and all_read())):
                    break
            return records
        finally:
            consumer.close()

    def offsets(self, partitions: int = 4) -> int:
        """The sum of the group's committed input offsets."""
        consumer = KafkaConsumer(
            bootstrap_servers=self.bootstrap,
            group_id=self.name,
            enable_auto_commit=False,
            isolation_level="read_committed",
        )
        try:
            return sum(consumer.committed(TopicPartition(self.frames, number)) or 0 for number in range(partitions))
        finally:
            consumer.close()


def new_lane(bootstrap: str, partitions: int = 4) -> Lane:
    """A lane with its topics made."""
    lane = Lane(bootstrap, f"t{uuid.uuid4().hex[:8]}")
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            admin.create_topics(
                {
                    lane.frames: {"num_partitions": partitions, "replication_factor": 1},
                    lane.events: {"num_partitions": 2, "replication_factor": 1},
                    lane.dead: {"num_partitions": 1, "replication_factor": 1},
                },
                wait_for_metadata=True,
            )
            break
        except (CoordinatorLoadInProgressError, CoordinatorNotAvailableError):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    admin.close()
    return lane
