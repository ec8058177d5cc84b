"""Consumers of one group, polled in turn until the group is as a test wants it."""

from __future__ import annotations

import time
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.coordinator.base import MemberState
from kafka.errors import NoOffsetForPartitionError

from tests.support.topics import PATIENCE_S, Lane


def poll(consumer: KafkaConsumer, timeout_ms: float) -> dict[TopicPartition, list[Any]]:
    """As the consumer's own. Of a partition without an offset it reads from the beginning, as the service's source has
    it do."""
    try:
        polled: dict[TopicPartition, list[Any]] = consumer.poll(timeout_ms)
    except NoOffsetForPartitionError as error:
        consumer.seek_to_beginning(*error.args[0])
        return {}
    return polled


def share(*consumers: KafkaConsumer) -> None:
    """Poll until each has partitions and the group has come to rest."""
    deadline = time.monotonic() + PATIENCE_S
    while not all(consumer.assignment() and _rests(consumer) for consumer in consumers):
        assert time.monotonic() < deadline, [consumer.assignment() for consumer in consumers]
        for consumer in consumers:
            poll(consumer, 50)


def until_rebalancing(*consumers: KafkaConsumer) -> None:
    """Poll until each takes part in a rebalance that waits for somebody else."""
    deadline = time.monotonic() + PATIENCE_S
    while not all(consumer.group_metadata().state is MemberState.REBALANCING for consumer in consumers):
        assert time.monotonic() < deadline, [consumer.group_metadata() for consumer in consumers]
        for consumer in consumers:
            poll(consumer, 50)


def grow(lane: Lane, partitions: int) -> None:
    """Add partitions to the camera topic until it has so many."""
    admin = KafkaAdminClient(bootstrap_servers=lane.bootstrap)
    try:
        admin.create_partitions({lane.frames: partitions})
    finally:
        admin.close()


def _rests(consumer: KafkaConsumer) -> bool:
    return consumer.group_metadata().state is MemberState.STABLE and not consumer._coordinator.need_rejoin()
