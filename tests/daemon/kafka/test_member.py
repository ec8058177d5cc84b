from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import MemberToRemove
from kafka.cluster import ClusterMetadata
from kafka.errors import FencedInstanceIdError

from daemon.apache_kafka import ApacheKafka
from daemon.kafka import clients
from daemon.kafka.member import GroupMember
from tests.support.groups import grow, lose_a_sync, poll, rests, share, until_rebalancing
from tests.support.topics import PATIENCE_S, Lane, new_lane

pytestmark = pytest.mark.kafka


class Group:
    """Members of a lane's group, closed with it."""

    def __init__(self, lane: Lane, resources: ExitStack) -> None:
        self.lane = lane
        self._resources = resources

    def member(self, instance: str) -> GroupMember:
        settings = self.lane.settings(f"kafka.instance={instance}", "kafka.heartbeat_interval_ms=200")
        member = self._resources.enter_context(closing(clients.consumer(settings)))
        member.subscribe([self.lane.frames])
        return member


@pytest.fixture
def group(apache_kafka: ApacheKafka) -> Iterator[Group]:
    with ExitStack() as resources:
        yield Group(new_lane(apache_kafka.bootstrap), resources)


def put_out(lane: Lane, member: GroupMember) -> None:
    admin = KafkaAdminClient(bootstrap_servers=lane.bootstrap)
    try:
        admin.remove_group_members(lane.name, [MemberToRemove(member_id=member.group_metadata().member_id)])
    finally:
        admin.close()


def poll_for(member: GroupMember, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        poll(member, 100)


def test_a_member_whose_name_was_taken_is_told_so_although_it_has_nothing_to_do(group: Group) -> None:
    first = group.member("line")
    share(first)
    second = group.member("line")
    share(second)
    with pytest.raises(FencedInstanceIdError, match="line"):
        poll_for(first, PATIENCE_S)
    share(second)
    assert len(second.assignment()) == 4


def test_a_member_that_polls_briefly_learns_what_it_was_given(group: Group) -> None:
    member = group.member("line")
    deadline = time.monotonic() + PATIENCE_S
    while not member.assignment():
        assert time.monotonic() < deadline
        poll(member, 0)
        time.sleep(0.1)


def test_partitions_that_are_added_are_shared_out(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    common = clients._common
    monkeypatch.setattr(clients, "_common", lambda *values, **named: {**common(*values), "metadata_max_age_ms": 200})
    members = [group.member("a"), group.member("b")]
    share(*members)
    grow(group.lane, 8)
    deadline = time.monotonic() + PATIENCE_S
    while sorted(len(member.assignment()) for member in members) != [4, 4]:
        assert time.monotonic() < deadline
        for member in members:
            poll(member, 50)
    share(*members)


def test_a_leader_that_knew_no_partitions_shares_them_out_once_it_does_although_the_connection_breaks(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a broker that restarts has it: at first it does not know the topic, and then it goes once more."""
    common = clients._common
    monkeypatch.setattr(clients, "_common", lambda *values, **named: {**common(*values), "metadata_max_age_ms": 200})
    known, unknown = ClusterMetadata.partitions_for_topic, threading.Event()
    monkeypatch.setattr(
        ClusterMetadata,
        "partitions_for_topic",
        lambda cluster, topic: None if unknown.is_set() else known(cluster, topic),
    )
    member = group.member("line")
    share(member)
    unknown.set()
    deadline = time.monotonic() + PATIENCE_S
    while member.assignment() or not rests(member):
        assert time.monotonic() < deadline
        poll(member, 50)
    lost = lose_a_sync(member)
    unknown.clear()
    while len(member.assignment()) < 4:
        assert time.monotonic() < deadline
        poll(member, 2_000)
    assert lost
    share(member)


def test_what_is_kept_is_read_while_a_rebalance_waits_for_another_member(group: Group) -> None:
    reading, silent = group.member("a"), group.member("b")
    share(reading, silent)
    joining = group.member("c")
    until_rebalancing(reading, joining)
    kept = reading.assignment()
    group.lane.send([b"frame"] * 8)
    read = set()
    deadline = time.monotonic() + PATIENCE_S
    while read != kept:
        assert time.monotonic() < deadline
        read |= set(poll(reading, 100))
        poll(joining, 0)
    until_rebalancing(reading, joining)
    share(reading, silent, joining)


def test_a_member_that_was_put_out_holds_nothing_that_another_holds_and_no_partition_is_forgotten(group: Group) -> None:
    first, second = group.member("a"), group.member("b")
    share(first, second)
    before = first.assignment()
    for _ in range(2):
        put_out(group.lane, first)
        # The other has all of them before the first knows.
        deadline = time.monotonic() + PATIENCE_S
        while len(second.assignment()) < 4:
            assert time.monotonic() < deadline
            poll(second, 50)
        poll(first, 0)
        # Until a heartbeat tells it, the first goes by what it had.
        while first.assignment() & second.assignment() or not (
            first.assignment() and len(first.assignment() | second.assignment()) == 4
        ):
            assert time.monotonic() < deadline
            assert not first.assignment() & second.assignment() or first.assignment() == before
            poll(first, 50)
            poll(second, 50)
        share(first, second)
        assert not first.assignment() & second.assignment()
        before = first.assignment()


def test_no_commit_is_made_with_a_membership_that_no_poll_has_told_of(group: Group) -> None:
    member = group.member("a")
    assert member.membership().generation_id < 0
    share(member)
    told = member.membership()
    assert told == member.group_metadata()
    assert told.generation_id >= 0
    # As the answer to a request to join leaves it, before the next poll.
    coordinator: Any = member._coordinator
    coordinator._generation.member_id = "anew"
    assert member.group_metadata().generation_id >= 0
    assert (member.membership().generation_id, member.membership().member_id) == (-1, "")
    assert TopicPartition(group.lane.frames, 0) in member.assignment()
