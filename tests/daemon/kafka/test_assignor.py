from __future__ import annotations

import random
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.protocol.consumer.metadata import ConsumerProtocolSubscription

from daemon.kafka.assignor import Assignor

TOPIC = "camera.frames"


class Cluster:
    def __init__(self, partitions: int) -> None:
        self._partitions = set(range(partitions))

    def topics(self) -> set[str]:
        return {TOPIC}

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return self._partitions if topic == TOPIC else None


class Member:
    """A member that holds partitions, and what it says of itself as the broker passes it on."""

    def __init__(self, member_id: str, holds: Iterable[int] = (), generation: int = -1) -> None:
        self.member_id = member_id
        self.holds = set(holds)
        self.assignor = Assignor()
        self.assignor.generation = generation
        self.assignor.serve(self)

    def assignment(self) -> set[TopicPartition]:
        return {TopicPartition(TOPIC, number) for number in self.holds}

    def group_metadata(self) -> SimpleNamespace:
        return SimpleNamespace(member_id=self.member_id)

    def metadata(self) -> Any:
        return ConsumerProtocolSubscription.decode(self.assignor.metadata([TOPIC]).encode())


def assign(*members: Member, partitions: int = 4, leader: Any = None) -> dict[str, set[int]]:
    entries = [SimpleNamespace(member_id=member.member_id, metadata=member.metadata()) for member in members]
    given = (leader or Assignor()).assign(Cluster(partitions), entries)
    return {name: {each.partition for each in assignment.partitions()} for name, assignment in given.items()}


def test_a_partition_moves_only_after_it_was_given_up() -> None:
    first = assign(Member("a", {0, 1, 2, 3}, 1), Member("b"))
    assert len(first["a"]) == 2
    assert first["b"] == set()
    second = assign(Member("a", first["a"], 2), Member("b", (), 2))
    assert second == {"a": first["a"], "b": {0, 1, 2, 3} - first["a"]}


@pytest.mark.parametrize("order", [1, -1])
def test_what_another_holds_is_not_given_to_one_that_held_it_before(order: int) -> None:
    gone, holder = Member("gone", {2, 3}, 4), Member("holder", {0, 1, 2, 3}, 6)
    given = assign(*[gone, holder][::order])
    assert given["gone"] == set()
    assert len(given["holder"]) == 2


@pytest.mark.parametrize("order", [1, -1])
def test_what_two_claim_alike_goes_to_neither(order: int) -> None:
    given = assign(*[Member("a", {0, 1}, 5), Member("b", {1, 2, 3}, 5)][::order])
    assert 1 not in given["a"] | given["b"]


def test_a_member_that_was_put_out_claims_nothing() -> None:
    member = Member("a", {0, 1}, 3)
    assert [entry.partitions for entry in member.metadata().owned_partitions] == [[0, 1]]
    assert member.metadata().generation_id == 3
    member.member_id = ""
    assert (list(member.metadata().owned_partitions), member.metadata().generation_id) == ([], -1)


def test_members_of_the_clients_own_assignor_are_understood() -> None:
    theirs = CooperativeStickyAssignor()
    theirs.member_assignment = [TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)]
    entries = [
        SimpleNamespace(
            member_id="theirs", metadata=ConsumerProtocolSubscription.decode(theirs.metadata([TOPIC]).encode())
        ),
        SimpleNamespace(member_id="ours", metadata=Member("ours", {2, 3}, 4).metadata()),
    ]
    given = Assignor().assign(Cluster(4), entries)
    assert {name: len(each.partitions()) for name, each in given.items()} == {"theirs": 2, "ours": 2}


def test_whatever_members_come_and_go_no_partition_has_two_holders_and_none_is_forgotten() -> None:
    chance = random.Random(5)
    for _ in range(200):
        partitions = chance.randint(1, 8)
        generation, named = 0, 0
        members: list[Member] = []
        for _ in range(10):
            for member in [each for each in members if chance.random() < 0.3]:
                members.remove(member)
            for _ in range(chance.randint(0 if members else 1, 2)):
                named += 1
                members.append(Member(f"{named}"))
            for _ in range(partitions + 2):
                generation += 1
                chance.shuffle(members)
                given = assign(*members, partitions=partitions, leader=members[0].assignor)
                held: list[int] = []
                revoked = False
                for member in members:
                    # What a member held at the beginning of a generation is its own until it gave it up.
                    revoked |= bool(member.holds - given[member.member_id])
                    held += member.holds | given[member.member_id]
                    member.holds = given[member.member_id]
                    member.assignor.generation = generation
                assert len(held) == len(set(held))
                if not revoked:
                    break
            assert set(held) == set(range(partitions))
            assert max(len(each.holds) for each in members) - min(len(each.holds) for each in members) <= 1
