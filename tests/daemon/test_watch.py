"""Events as they come, on a broker."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import islice

import pytest
from kafka import KafkaConsumer, KafkaProducer

from daemon.errors import BrokerError
from daemon.kafka import clients
from daemon.watch import follow_events
from tests.support.defect_events import event
from tests.support.topics import PATIENCE_S, Lane

pytestmark = pytest.mark.kafka


@pytest.fixture
def consumer(lane: Lane) -> Iterator[KafkaConsumer]:
    consumer = clients.reader(lane.settings())
    yield consumer
    consumer.close()


def publish(lane: Lane, *values: bytes | None) -> None:
    producer = KafkaProducer(bootstrap_servers=lane.bootstrap)
    for value in values:
        producer.send(lane.events, value, key=b"cam-1", partition=0).get(PATIENCE_S)
    producer.close()


def values(*names: str) -> list[bytes]:
    return [event(frame=name).to_json() for name in names]


def test_from_the_earliest_until_no_more_come(lane: Lane, consumer: KafkaConsumer):
    publish(lane, *values("a", "b"))
    events = follow_events(consumer, lane.events, start="earliest", until_idle_s=1.0, stop=threading.Event())
    assert [one.frame for one in events] == ["a", "b"]


def test_from_the_latest_only_what_comes(lane: Lane, consumer: KafkaConsumer):
    publish(lane, *values("before"))
    stop = threading.Event()
    events = follow_events(consumer, lane.events, start="latest", stop=stop)
    publisher = threading.Timer(0.5, publish, (lane, *values("after", "more")))
    publisher.start()
    assert [one.frame for one in islice(events, 2)] == ["after", "more"]
    publisher.join()


def test_what_is_no_event_is_passed_over(lane: Lane, consumer: KafkaConsumer, capsys: pytest.CaptureFixture[str]):
    publish(lane, b"{", None, b'{"schema": "other/1"}', *values("good"))
    events = follow_events(consumer, lane.events, start="earliest", until_idle_s=1.0, stop=threading.Event())
    assert [one.frame for one in events] == ["good"]


def test_only_committed_events_are_seen(lane: Lane, consumer: KafkaConsumer):
    producer = KafkaProducer(bootstrap_servers=lane.bootstrap, transactional_id=lane.name)
    producer.init_transactions()
    for name, end in (("aborted", producer.abort_transaction), ("committed", producer.commit_transaction)):
        producer.begin_transaction()
        producer.send(lane.events, event(frame=name).to_json(), partition=0).get(PATIENCE_S)
        end()
    producer.close()
    events = follow_events(consumer, lane.events, start="earliest", until_idle_s=1.0, stop=threading.Event())
    assert [one.frame for one in events] == ["committed"]


def test_a_stop_ends_it(lane: Lane, consumer: KafkaConsumer):
    stop = threading.Event()
    stop.set()
    assert list(follow_events(consumer, lane.events, start="earliest", stop=stop)) == []


def test_a_stop_does_not_wait_for_events_that_came_together(lane: Lane, consumer: KafkaConsumer):
    publish(lane, *values("a", "b", "c"))
    stop = threading.Event()
    seen = []
    for one in follow_events(consumer, lane.events, start="earliest", until_idle_s=20.0, stop=stop):
        seen.append(one.frame)
        stop.set()
    assert seen == ["a"]


def test_a_missing_topic_is_named(consumer: KafkaConsumer):
    with pytest.raises(BrokerError, match=r"topic no\.such does not exist") as raised:
        next(follow_events(consumer, "no.such", start="latest", stop=threading.Event()))
    assert raised.value.exit_code == 3
