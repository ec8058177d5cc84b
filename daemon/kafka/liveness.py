"""Whether the brokers that a consumer depends on answer, told from the requests that it makes anyway.

Nothing is sent: the consumer asks for frames twenty times a second and sends a heartbeat every few seconds, and what
becomes of those is all that has to be looked at. The client tells nobody that they stay without an answer.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.coordinator.base import MemberState

GRACE_S = 3.0
"""How long a broker may be away before it is trouble: a connection that is made anew is none."""

SILENCE_S = 4.0
"""How long an answer may take. A fetch is held for some milliseconds, and a heartbeat is answered at once."""


class BrokerWatch:
    """Looks at one consumer; for the thread that owns it."""

    def __init__(self, consumer: KafkaConsumer, topic: str) -> None:
        self._consumer = consumer
        self._topic = topic
        self._since: float | None = None

    def trouble(self, partitions: Iterable[TopicPartition]) -> str | None:
        """What has kept frames of these partitions, or the group, from this consumer for a while; None where nothing
        does."""
        now = time.monotonic()
        found = self._found(partitions, now)
        if found is None:
            self._since = None
        elif self._since is None:
            self._since = now
        return found if self._since is not None and now - self._since >= GRACE_S else None

    def _found(self, partitions: Iterable[TopicPartition], now: float) -> str | None:
        cluster = self._consumer._manager.cluster
        if not cluster.partitions_for_topic(self._topic):
            return f"topic {self._topic} is not there"
        leaders = set()
        for partition in partitions:
            leader = cluster.leader_for_partition(partition)
            if leader is None or leader == -1:
                return f"partition {partition.partition} of {self._topic} has no leader"
            leaders.add(leader)
        for leader in leaders:
            if problem := self._problem_of(leader, now):
                return problem
        coordinator = self._consumer._coordinator
        if coordinator.coordinator_id is None:
            return "no broker looks after the group"
        # An answer to a request to join takes as long as the others of the group do.
        return self._problem_of(coordinator.coordinator_id, now) if coordinator.state is MemberState.STABLE else None

    def _problem_of(self, node: Any, now: float) -> str | None:
        manager = self._consumer._manager
        broker = manager.cluster.broker_metadata(node)
        name = f"broker {broker.host}:{broker.port}" if broker is not None else f"broker {node}"
        connection = manager._conns.get(node)
        if connection is None or not connection.connected:
            return f"{name} is not connected"
        try:
            sent = connection.in_flight_requests[0][2]
        except IndexError:
            return None
        return f"{name} has not answered for {now - sent:.0f} s" if now - sent > SILENCE_S else None
