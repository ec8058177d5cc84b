"""What is told of a consumer's brokers from its own requests."""

from __future__ import annotations

import time
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.coordinator.base import MemberState

from daemon.kafka import liveness
from daemon.kafka.liveness import SILENCE_S, BrokerWatch

ZERO = TopicPartition("camera.frames", 0)


class Cluster:
    """One broker, 1, which leads the partition; ``coordinator-1`` is its other connection."""

    def __init__(self) -> None:
        self.partitions: set[int] | None = {0}
        self.leader: int | None = 1

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return self.partitions

    def leader_for_partition(self, partition: TopicPartition) -> int | None:
        return self.leader

    def broker_metadata(self, node: Any) -> SimpleNamespace:
        return SimpleNamespace(host="kafka", port=9092)


@pytest.fixture
def consumer() -> Any:
    connections = {node: SimpleNamespace(connected=True, in_flight_requests=deque()) for node in (1, "coordinator-1")}
    coordinator = SimpleNamespace(coordinator_id="coordinator-1", state=MemberState.STABLE)
    return SimpleNamespace(_manager=SimpleNamespace(cluster=Cluster(), _conns=connections), _coordinator=coordinator)


@pytest.fixture
def watch(consumer: Any, monkeypatch: pytest.MonkeyPatch) -> BrokerWatch:
    monkeypatch.setattr(liveness, "GRACE_S", 0.0)
    return BrokerWatch(consumer, "camera.frames")


def asked(consumer: Any, node: Any, ago_s: float) -> None:
    consumer._manager._conns[node].in_flight_requests.append((1, None, time.monotonic() - ago_s, 0.0, None))


def test_a_broker_that_answers_is_no_trouble(watch: BrokerWatch, consumer: Any) -> None:
    asked(consumer, 1, 0.1)
    assert watch.trouble([ZERO]) is None


@pytest.mark.parametrize("node", [1, "coordinator-1"])
def test_a_broker_that_is_silent_or_gone_is_named(watch: BrokerWatch, consumer: Any, node: Any) -> None:
    asked(consumer, node, SILENCE_S + 3)
    assert watch.trouble([ZERO]) == f"broker kafka:9092 has not answered for {SILENCE_S + 3:.0f} s"
    consumer._manager._conns[node].connected = False
    assert watch.trouble([ZERO]) == "broker kafka:9092 is not connected"
    del consumer._manager._conns[node]
    assert watch.trouble([ZERO]) == "broker kafka:9092 is not connected"


def test_a_group_that_takes_its_time_over_a_rebalance_is_no_trouble(watch: BrokerWatch, consumer: Any) -> None:
    consumer._coordinator.state = MemberState.REBALANCING
    asked(consumer, "coordinator-1", SILENCE_S + 3)
    assert watch.trouble([ZERO]) is None


def test_a_standby_depends_on_the_group_alone(watch: BrokerWatch, consumer: Any) -> None:
    consumer._manager._conns[1].connected = False
    assert watch.trouble([]) is None
    consumer._coordinator.coordinator_id = None
    assert watch.trouble([]) == "no broker looks after the group"


def test_a_partition_without_leader_and_a_topic_that_is_gone_are_named(watch: BrokerWatch, consumer: Any) -> None:
    consumer._manager.cluster.leader = -1
    assert watch.trouble([ZERO]) == "partition 0 of camera.frames has no leader"
    consumer._manager.cluster.partitions = None
    assert watch.trouble([ZERO]) == "topic camera.frames is not there"


def test_a_connection_that_is_made_anew_is_no_trouble(consumer: Any) -> None:
    watch = BrokerWatch(consumer, "camera.frames")
    consumer._manager._conns[1].connected = False
    assert watch.trouble([ZERO]) is None
