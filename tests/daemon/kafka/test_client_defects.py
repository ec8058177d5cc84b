"""Defects of kafka-python, shown on the bare client: they lose, repeat or hold up frames, and delivery is built around
them.

These tests pass while the defects are there. When one fails, a new version of the client has mended it: then look at
what :mod:`daemon.delivery.exactly_once` (the first two), :mod:`daemon.kafka.assignor` or :mod:`daemon.kafka.member`
does about it, and whether that is still needed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.admin import MemberToRemove
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.base import MemberState
from kafka.errors import CommitFailedError
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment, ConsumerProtocolSubscription
from kafka.structs import ConsumerGroupMetadata

from daemon.apache_kafka import ApacheKafka
from tests.support.groups import grow, lose_a_sync, share, until_rebalancing
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
def member(lane: Lane, **values: Any) -> Iterator[KafkaConsumer]:
    """A consumer of the group; its heartbeats are quick, so that it soon learns of its eviction."""
    consumer = KafkaConsumer(
        lane.frames,
        bootstrap_servers=lane.bootstrap,
        group_id=lane.name,
        enable_auto_commit=False,
        isolation_level="read_committed",
        session_timeout_ms=10_000,
        heartbeat_interval_ms=200,
        **values,
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


def test_a_member_that_lost_its_partitions_claims_them_and_is_given_what_another_holds() -> None:
    theirs = [TopicPartition("f", number) for number in range(4)]
    evicted, owner = CooperativeStickyAssignor(), CooperativeStickyAssignor()
    # The client calls this at the end of each rebalance, and nothing when the group puts it out.
    evicted.on_assignment(ConsumerProtocolAssignment(1, [("f", [2, 3])], b""), 4)
    owner.on_assignment(ConsumerProtocolAssignment(1, [("f", [0, 1, 2, 3])], b""), 6)
    cluster = SimpleNamespace(topics=lambda: {"f"}, partitions_for_topic=lambda topic: {0, 1, 2, 3})
    members = [
        SimpleNamespace(member_id=name, metadata=ConsumerProtocolSubscription.decode(each.metadata({"f"}).encode()))
        for name, each in (("owner", owner), ("evicted", evicted))
    ]
    assert set(owner.member_assignment) == set(theirs)
    # The owner has yet to give them up, and delivers what it has read of them.
    assert owner.assign(cluster, members)["evicted"].partitions() == theirs[2:]


def test_a_member_whose_name_was_taken_goes_on_as_if_nothing_had_happened(apache_kafka: ApacheKafka) -> None:
    lane = new_lane(apache_kafka.bootstrap)
    with member(lane, group_instance_id="line") as first:
        joined(first)
        with member(lane, group_instance_id="line") as second:
            joined(second)
            deadline = time.monotonic() + PATIENCE_S
            while first._coordinator._heartbeat_enabled:
                assert time.monotonic() < deadline
                first.poll(timeout_ms=100)
            for _ in range(10):
                first.poll(timeout_ms=100)
            assert first.group_metadata().state is MemberState.STABLE
            assert first.assignment() == second.assignment()


def test_a_member_reads_nothing_of_what_it_keeps_while_a_rebalance_waits_for_another(apache_kafka: ApacheKafka) -> None:
    lane = new_lane(apache_kafka.bootstrap)
    cooperative = {"partition_assignment_strategy": [CooperativeStickyAssignor]}
    with member(lane, **cooperative) as reading, member(lane, **cooperative) as silent:
        share(reading, silent)
        with member(lane, **cooperative) as joining:
            until_rebalancing(reading, joining)
            lane.send([b"frame"] * 8)
            kept = reading.assignment()
            for _ in range(20):
                assert not reading.poll(timeout_ms=100)
                joining.poll(timeout_ms=0)
            assert reading.assignment() == kept
            assert kept
            deadline = time.monotonic() + PATIENCE_S
            while not reading.poll(timeout_ms=100):
                assert time.monotonic() < deadline
                silent.poll(timeout_ms=0)
                joining.poll(timeout_ms=0)


def test_a_member_that_polls_briefly_never_learns_what_it_was_given(lane: Lane) -> None:
    with member(lane) as brief:
        for _ in range(30):
            brief.poll(timeout_ms=0)
            time.sleep(0.1)
        assert brief._coordinator._join_task.succeeded()
        assert not brief.assignment()


def test_a_member_that_joins_since_the_topic_has_grown_forgets_what_it_leads(apache_kafka: ApacheKafka) -> None:
    lane = new_lane(apache_kafka.bootstrap)
    watchful = {"partition_assignment_strategy": [CooperativeStickyAssignor], "metadata_max_age_ms": 200}
    with member(lane, **watchful) as leader, member(lane, **watchful) as other:
        share(leader, other)
        if not leader._coordinator._is_leader:
            leader, other = other, leader
        grow(lane, 8)
        until_rebalancing(leader)
        for _ in range(40):
            leader.poll(timeout_ms=50)
            other.poll(timeout_ms=50)
        assert leader._coordinator._join_task.succeeded()
        assert leader.group_metadata().state is MemberState.REBALANCING
        assert not leader._coordinator.need_rejoin()


def test_a_leader_that_joins_since_the_topic_has_grown_forgets_it_when_the_connection_breaks(lane: Lane) -> None:
    with member(lane, partition_assignment_strategy=[CooperativeStickyAssignor], metadata_max_age_ms=200) as leader:
        share(leader)
        lost = lose_a_sync(leader)
        grow(lane, 8)
        deadline = time.monotonic() + PATIENCE_S
        while not lost:
            assert time.monotonic() < deadline
            leader.poll(timeout_ms=2_000)
        for _ in range(20):
            leader.poll(timeout_ms=50)
        assert len(leader.assignment()) == 4
        assert leader.group_metadata().state is MemberState.REBALANCING
        assert not leader._coordinator.need_rejoin()


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
