"""Two defects of kafka-python, shown on the bare client: both lose or repeat frames, and delivery is built around them.

These tests pass while the defects are there. When one fails, a new version of the client has mended it: then look at
what :mod:`daemon.delivery.exactly_once` does about it, and whether that is still needed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.admin import MemberToRemove
from kafka.errors import CommitFailedError
from kafka.structs import ConsumerGroupMetadata

from daemon.apache_kafka import ApacheKafka
from tests.support.topics import PATIENCE_S, Lane, new_lane

pytestmark = pytest.mark.kafka


@contextmanager
def transactional(lane: Lane) -> Iterator[KafkaProducer]:
    producer = KafkaProducer(bootstrap_servers=lane.bootstrap, transactional_id=f"{lane.name}-bare")
    try:
        producer.init_transactions()
        yield producer
    finally:
        producer.close()


@contextmanager
def member(lane: Lane) -> Iterator[KafkaConsumer]:
    """A consumer of the group; its heartbeats are quick, so that it soon learns of its eviction."""
    consumer = KafkaConsumer(
        lane.frames,
        bootstrap_servers=lane.bootstrap,
        group_id=lane.name,
        enable_auto_commit=False,
        isolation_level="read_committed",
        session_timeout_ms=10_000,
        heartbeat_interval_ms=200,
    )
    try:
        yield consumer
    finally:
        consumer.close(autocommit=False)


def joined(consumer: KafkaConsumer) -> ConsumerGroupMetadata:
    deadline = time.monotonic() + PATIENCE_S
    while not consumer.assignment():
        assert time.monotonic() < deadline
        consumer.poll(timeout_ms=100)
    return consumer.group_metadata()


def at(offset: int) -> OffsetAndMetadata:
    return OffsetAndMetadata(offset, "", -1)


def test_offsets_whose_commit_failed_ride_in_the_next_transaction(apache_kafka: ApacheKafka) -> None:
    # The embedded broker refuses no offsets, so it cannot show this one.
    lane = new_lane(apache_kafka.bootstrap)
    refused, later = TopicPartition(lane.frames, 0), TopicPartition(lane.frames, 1)
    stranger = ConsumerGroupMetadata(lane.name, generation_id=7, member_id="evicted")
    with transactional(lane) as producer:
        producer.begin_transaction()
        producer.send(lane.events, b"event of the refused frame")
        with pytest.raises(CommitFailedError):
            producer.send_offsets_to_transaction({refused: at(5)}, stranger)
        producer.abort_transaction()

        producer.begin_transaction()
        producer.send(lane.events, b"event of a later frame")
        producer.send_offsets_to_transaction({later: at(3)}, ConsumerGroupMetadata(lane.name))
        producer.commit_transaction()

    # The event of the refused frame was aborted, and still its frame counts as done: it is lost.
    assert [record.value for record in lane.committed(lane.events, bool)] == [b"event of a later frame"]
    assert committed(lane, later) == 3
    assert committed(lane, refused) == 5


def test_an_evicted_member_commits_unfenced(lane: Lane) -> None:
    partition = TopicPartition(lane.frames, 0)
    with member(lane) as evicted:
        membership = joined(evicted)
        assert membership.generation_id >= 0
        remove(lane, membership)
        with member(lane) as owner:
            joined(owner)
            lost = without_membership(evicted)
            assert (lost.generation_id, lost.member_id) == (-1, "")
            with transactional(lane) as producer:
                producer.begin_transaction()
                producer.send(lane.events, b"of a frame that the owner inspects as well")
                producer.send_offsets_to_transaction({partition: at(5)}, lost)
                producer.commit_transaction()
            assert partition in owner.assignment()
            assert owner.committed(partition) == 5


def committed(lane: Lane, partition: TopicPartition) -> Any:
    consumer = KafkaConsumer(
        bootstrap_servers=lane.bootstrap,
        group_id=lane.name,
        enable_auto_commit=False,
        isolation_level="read_committed",
    )
    try:
        return consumer.committed(partition)
    finally:
        consumer.close()


def remove(lane: Lane, membership: ConsumerGroupMetadata) -> None:
    admin = KafkaAdminClient(bootstrap_servers=lane.bootstrap)
    try:
        admin.remove_group_members(lane.name, [MemberToRemove(member_id=membership.member_id)])
    finally:
        admin.close()


def without_membership(consumer: KafkaConsumer) -> ConsumerGroupMetadata:
    """What a consumer that is not polled says of itself once a heartbeat told it of its eviction."""
    deadline = time.monotonic() + PATIENCE_S
    while (metadata := consumer.group_metadata()).generation_id >= 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return metadata
