"""What every delivery promises; each implementation runs this suite on each broker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kafka import KafkaConsumer, TopicPartition

from daemon.delivery import Delivery
from daemon.kafka import clients
from tests.support.groups import share
from tests.support.topics import Lane


class DeliveryContract:
    """Subclasses give the fixture ``delivery``."""

    @pytest.fixture
    def consumer(self, lane: Lane) -> Iterator[KafkaConsumer]:
        consumer = clients.consumer(lane.settings())
        consumer.subscribe([lane.frames])
        share(consumer)
        yield consumer
        consumer.close(autocommit=False)

    def test_what_is_committed_is_seen_with_its_key_and_headers_and_in_order(
        self, lane: Lane, delivery: Delivery
    ) -> None:
        with delivery:
            for number in range(5):
                delivery.send(lane.events, b"cam", b"%d" % number, [("a", b"b")])
            delivery.commit({TopicPartition(lane.frames, 0): 5})
        records = lane.committed(lane.events, lambda seen: len(seen) >= 5)
        assert [record.value for record in records] == [b"0", b"1", b"2", b"3", b"4"]
        assert {(record.key, tuple(record.headers)) for record in records} == {(b"cam", (("a", b"b"),))}

    def test_offsets_are_committed_with_what_they_caused_and_without_anything(
        self, lane: Lane, delivery: Delivery
    ) -> None:
        with delivery:
            delivery.send(lane.dead, None, b"", [])
            delivery.commit({TopicPartition(lane.frames, 0): 3, TopicPartition(lane.frames, 2): 7})
            assert lane.offsets() == 10
            delivery.commit({TopicPartition(lane.frames, 0): 4})
            assert lane.offsets() == 11

    def test_what_is_given_up_leaves_offsets_alone_and_the_next_commit_stands_for_itself(
        self, lane: Lane, delivery: Delivery
    ) -> None:
        with delivery:
            delivery.send(lane.events, b"cam", b"kept", [])
            delivery.commit({TopicPartition(lane.frames, 0): 1})
            delivery.send(lane.events, b"cam", b"given up", [])
            delivery.abort()
            delivery.open()
            assert lane.offsets() == 1
            delivery.send(lane.events, b"cam", b"kept again", [])
            delivery.commit({TopicPartition(lane.frames, 0): 2})
        values = [
            record.value
            for record in lane.committed(lane.events, lambda seen: b"kept again" in [item.value for item in seen])
        ]
        assert values[0] == b"kept"
        assert values[-1] == b"kept again"
        assert lane.offsets() == 2
