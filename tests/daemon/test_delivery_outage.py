"""A delivery whose broker is away gives up in time, and leaves nothing behind that goes on sending."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from kafka import TopicPartition

from daemon.delivery import AtLeastOnce, Delivery, DeliveryAborted, ExactlyOnce
from daemon.embedded_broker import EmbeddedBroker
from daemon.kafka import clients
from tests.support.topics import Lane, new_lane

pytestmark = pytest.mark.kafka

TIMEOUT_S = 1.0
PATIENCE_S = 10.0


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as broker:
        yield broker


@pytest.fixture
def lane(broker: EmbeddedBroker) -> Lane:
    return new_lane(broker.bootstrap)


@pytest.fixture(params=["exactly_once", "at_least_once"])
def delivery(request: pytest.FixtureRequest, lane: Lane) -> Iterator[Delivery]:
    settings = lane.settings("kafka.transaction_timeout_ms=5000")
    consumer = clients.consumer(settings)
    if request.param == "exactly_once":
        yield ExactlyOnce(
            lambda: clients.producer(settings, transactional=True),
            lambda: consumer.group_metadata()._replace(generation_id=1, member_id="m"),
            name="one",
            timeout_s=TIMEOUT_S,
        )
    else:
        yield AtLeastOnce(
            lambda: clients.producer(settings, transactional=False),
            lambda offsets, within_s: consumer.commit(offsets, timeout_ms=within_s * 1000),
            name="one",
            timeout_s=TIMEOUT_S,
        )
    consumer.close(autocommit=False)


def producers() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.endswith("-network-thread")}


def test_a_commit_gives_up_and_what_was_in_hand_is_not_sent_any_more(
    broker: EmbeddedBroker, lane: Lane, delivery: Delivery
) -> None:
    delivery.open()
    delivery.send(lane.events, b"cam", b"first", [])
    delivery.commit({})
    broker.kill()
    delivery.send(lane.events, b"cam", b"second", [])
    with pytest.raises(DeliveryAborted):
        delivery.commit({TopicPartition(lane.frames, 0): 1})
    started = time.monotonic()
    delivery.abort()
    assert time.monotonic() - started < PATIENCE_S
    assert producers() == set()


def test_a_commit_of_offsets_alone_gives_up_as_well(broker: EmbeddedBroker, lane: Lane, delivery: Delivery) -> None:
    delivery.open()
    broker.kill()
    started = time.monotonic()
    with pytest.raises(DeliveryAborted):
        delivery.commit({TopicPartition(lane.frames, 0): 1})
    delivery.close()
    assert time.monotonic() - started < PATIENCE_S
    assert producers() == set()
