from __future__ import annotations

from collections import namedtuple

import pytest
from kafka import KafkaConsumer, TopicPartition

from daemon.delivery import AtLeastOnce, Delivery, DeliveryAborted, ExactlyOnce
from daemon.errors import FencedError
from daemon.kafka import clients
from tests.daemon.contract_delivery import DeliveryContract
from tests.support.topics import PATIENCE_S, Lane

pytestmark = pytest.mark.kafka


def exactly_once(lane: Lane, consumer: KafkaConsumer) -> ExactlyOnce:
    settings = lane.settings()
    return ExactlyOnce(
        lambda: clients.producer(settings, transactional=True),
        consumer.group_metadata,
        name=settings.kafka.instance,
        timeout_s=20,
    )


class TestExactlyOnce(DeliveryContract):
    @pytest.fixture
    def delivery(self, lane: Lane, consumer: KafkaConsumer) -> Delivery:
        return exactly_once(lane, consumer)

    def test_what_is_given_up_is_never_seen(self, lane: Lane, delivery: Delivery) -> None:
        with delivery:
            delivery.send(lane.events, b"cam", b"given up", [])
            delivery.abort()
            delivery.open()
            delivery.send(lane.events, b"cam", b"kept", [])
            delivery.commit({TopicPartition(lane.frames, 0): 1})
        records = lane.committed(lane.events, bool)
        assert [record.value for record in records] == [b"kept"]

    def test_a_second_instance_of_the_name_fences_the_first(
        self, lane: Lane, consumer: KafkaConsumer, delivery: Delivery
    ) -> None:
        delivery.open()
        delivery.send(lane.events, b"cam", b"of the first", [])
        assert isinstance(delivery, ExactlyOnce)
        # The broker refuses one that comes after the second has begun as of an old epoch, which is no fencing yet.
        delivery._sent[0].get(PATIENCE_S)
        with exactly_once(lane, consumer) as second:
            with pytest.raises(FencedError, match=r"kafka\.instance"):
                delivery.commit({TopicPartition(lane.frames, 0): 1})
            second.send(lane.events, b"cam", b"of the second", [])
            second.commit({TopicPartition(lane.frames, 0): 1})
        delivery.close()
        assert [record.value for record in lane.committed(lane.events, bool)] == [b"of the second"]

    def test_nothing_is_committed_with_a_lost_membership(self, lane: Lane) -> None:
        lost = namedtuple("Lost", "generation_id")(-1)
        settings = lane.settings()
        delivery = ExactlyOnce(
            lambda: clients.producer(settings, transactional=True), lambda: lost, name="one", timeout_s=20
        )
        with delivery:
            delivery.send(lane.events, b"cam", b"of a lost member", [])
            with pytest.raises(DeliveryAborted, match="membership"):
                delivery.commit({TopicPartition(lane.frames, 0): 1})
        assert lane.offsets() == 0
        assert lane.committed(lane.events, lambda _: True) == []


class TestAtLeastOnce(DeliveryContract):
    @pytest.fixture
    def delivery(self, lane: Lane, consumer: KafkaConsumer) -> Delivery:
        settings = lane.settings()
        return AtLeastOnce(
            lambda: clients.producer(settings, transactional=False),
            lambda offsets, within_s: consumer.commit(offsets, timeout_ms=within_s * 1000),
            name=settings.kafka.instance,
            timeout_s=20,
        )
