"""Consumers of one group, polled in turn until the group is as a test wants it."""

from __future__ import annotations

import time
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.coordinator.base import MemberState
from kafka.errors import KafkaConnectionError, NoOffsetForPartitionError
from kafka.future import Future
from kafka.protocol.consumer import SyncGroupRequest

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
    while not all(consumer.assignment() and rests(consumer) for consumer in consumers):
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


def lose_a_sync(consumer: KafkaConsumer) -> list[object]:
    """Let the connection break once, at the consumer's next request for its part of an assignment. Returns the requests
    that were lost."""
    manager = consumer._coordinator._manager
    send, lost = manager.send, []

    def losing(request: object, *to: object, **options: object) -> object:
        if isinstance(request, SyncGroupRequest) and not lost:
            lost.append(request)
            return Future().failure(KafkaConnectionError("the connection broke"))
        return send(request, *to, **options)

    manager.send = losing
    return lost


def rests(consumer: KafkaConsumer) -> bool:
    """Whether it is of the group and wants nothing else."""
    return consumer.group_metadata().state is MemberState.STABLE and not consumer._coordinator.need_rejoin()
