"""Consumers of one group, polled in turn until the group is as a test wants it."""

from __future__ import annotations

import time

from kafka import KafkaAdminClient, KafkaConsumer
from kafka.coordinator.base import MemberState

from tests.support.topics import PATIENCE_S, Lane


def share(*consumers: KafkaConsumer) -> None:
    """Poll until each has partitions and the group has come to rest."""
    deadline = time.monotonic() + PATIENCE_S
    while not all(consumer.assignment() and _rests(consumer) for consumer in consumers):
        assert time.monotonic() < deadline, [consumer.assignment() for consumer in consumers]
        for consumer in consumers:
            consumer.poll(timeout_ms=50)


def until_rebalancing(*consumers: KafkaConsumer) -> None:
    """Poll until each takes part in a rebalance that waits for somebody else."""
    deadline = time.monotonic() + PATIENCE_S
    while not all(consumer.group_metadata().state is MemberState.REBALANCING for consumer in consumers):
        assert time.monotonic() < deadline, [consumer.group_metadata() for consumer in consumers]
        for consumer in consumers:
            consumer.poll(timeout_ms=50)


def grow(lane: Lane, partitions: int) -> None:
    """Add partitions to the camera topic until it has so many."""
    admin = KafkaAdminClient(bootstrap_servers=lane.bootstrap)
    try:
        admin.create_partitions({lane.frames: partitions})
    finally:
        admin.close()


def _rests(consumer: KafkaConsumer) -> bool:
    return consumer.group_metadata().state is MemberState.STABLE and not consumer._coordinator.need_rejoin()
