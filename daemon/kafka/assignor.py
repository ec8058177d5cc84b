"""Who reads which partition: the client's cooperative assignor, with claims that are true.

In a cooperative rebalance a member names the partitions that it holds, and whoever leads gives none of them to another
before it was given up. The client's own (kafka-python 3.0) names what it was last given, also after the group put it
out, and does not say when that was. Of two members that name the same partition it may hand it to the one that lost it
long ago while the other is still delivering its frames: those are delivered twice. A partition that is named by nobody
but a member that lost it may go to no one at all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, Protocol

from kafka import TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment, ConsumerProtocolSubscription


class Holder(Protocol):
    """What the assignor asks of the consumer that it serves."""

    def assignment(self) -> set[TopicPartition]:
        """The partitions that it holds."""

    def group_metadata(self) -> Any:
        """Its membership; the member id is empty where the group has put it out."""


class Assignor(CooperativeStickyAssignor):  # type: ignore[misc]  # the client publishes no types
    """Compatible with the client's own and with Java's of the same name; serves one consumer."""

    # The first version of the subscription that tells of which generation a claim is.
    version = 2

    def __init__(self) -> None:
        super().__init__()
        self._holder: Holder | None = None

    def serve(self, holder: Holder) -> None:
        """Name what this consumer holds whenever it joins."""
        self._holder = holder

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolSubscription:
        """What a member says of itself when it joins: what it holds, and since which generation."""
        held: set[TopicPartition] = set()
        if self._holder is not None and self._holder.group_metadata().member_id:
            held = self._holder.assignment()
        return _subscription(topics, held, self.generation if held else self.DEFAULT_GENERATION_ID)

    def assign(self, cluster: Any, members: Iterable[Any]) -> dict[str, ConsumerProtocolAssignment]:
        """What each member is to hold, by member id. Called where this member leads the group."""
        told = {member.member_id: self.parse_member_metadata(member.metadata) for member in members}
        claims: dict[TopicPartition, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
        for member_id, member in told.items():
            for partition in member.partitions:
                claims[partition][member.generation].append(member_id)
        newest = {partition: by_generation[max(by_generation)] for partition, by_generation in claims.items()}
        settled = [
            SimpleNamespace(
                member_id=member_id,
                metadata=_subscription(
                    member.subscription,
                    [partition for partition in member.partitions if newest[partition] == [member_id]],
                    member.generation,
                ),
            )
            for member_id, member in told.items()
        ]
        assigned: dict[str, ConsumerProtocolAssignment] = super().assign(cluster, settled)
        # Nobody can tell who of several holds it: whoever does gives it up now, and the next round gives it away.
        contested = {partition for partition, claimants in newest.items() if len(claimants) > 1}
        return {member_id: _without(contested, given) for member_id, given in assigned.items()}


def _subscription(
    topics: Iterable[str], held: Iterable[TopicPartition], generation: int
) -> ConsumerProtocolSubscription:
    entry = ConsumerProtocolSubscription.TopicPartition
    return ConsumerProtocolSubscription(
        version=Assignor.version,
        topics=sorted(topics),
        user_data=b"",
        owned_partitions=[entry(topic=topic, partitions=numbers) for topic, numbers in _by_topic(held)],
        generation_id=generation,
    )


def _without(contested: set[TopicPartition], given: ConsumerProtocolAssignment) -> ConsumerProtocolAssignment:
    kept = _by_topic(set(given.partitions()) - contested)
    # The assignment's own format has not changed since the first version that cooperative members speak.
    return ConsumerProtocolAssignment(CooperativeStickyAssignor.version, kept, b"")


def _by_topic(partitions: Iterable[TopicPartition]) -> list[tuple[str, list[int]]]:
    by_topic: dict[str, list[int]] = defaultdict(list)
    for partition in sorted(partitions):
        by_topic[partition.topic].append(partition.partition)
    return list(by_topic.items())
