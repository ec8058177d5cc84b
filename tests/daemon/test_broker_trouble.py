"""Trouble with an Apache Kafka: the service waits and goes on by itself, or says why it cannot."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from daemon.delivery import AtLeastOnce, DeliveryAborted, ExactlyOnce, RecordTooLarge
from daemon.errors import BrokerError, FencedError
from daemon.kafka import clients
from tests.daemon.test_delivery import exactly_once
from tests.daemon.test_service import DEFECTIVE, built, png
from tests.faults.brokers import FaultyKafka
from tests.support.groups import share
from tests.support.running_service import PATIENCE_S, running, wait_until
from tests.support.second_broker import SecondBroker
from tests.support.topics import Lane, new_lane

__all__ = ["built"]

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(300)]

FRAME = png(DEFECTIVE)
QUICK = ["kafka.transaction_timeout_ms=5000", "kafka.max_poll_interval_ms=20000"]


@pytest.fixture
def lane(hurt_kafka: FaultyKafka) -> Lane:
    return new_lane(hurt_kafka.bootstrap)


@contextmanager
def admin(lane: Lane) -> Iterator[Any]:
    client = KafkaAdminClient(bootstrap_servers=lane.bootstrap)
    try:
        yield client
    finally:
        client.close()


def set_topic(lane: Lane, topic: str, **configs: str) -> None:
    with admin(lane) as client:
        values = {name.replace("_", "."): value for name, value in configs.items()}
        client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, values)])


def assert_each_frame_has_one_event(lane: Lane, frames: int) -> None:
    events = lane.committed(lane.events, lambda seen: len(seen) >= frames)
    ids = Counter(json.loads(event.value)["id"] for event in events)
    assert (len(ids), ids.total()) == (frames, frames)


def test_a_broker_that_restarts_costs_nothing_and_an_idle_line_tells_that_it_is_away(
    hurt_kafka: FaultyKafka, lane: Lane, built: list[str]
) -> None:
    with running(lane, *built, *QUICK) as service:
        lane.send([FRAME] * 40)
        service.wait_for_settled(40)
        assert service.wait_for_ready(ready=True) == "taking frames"
        hurt_kafka.stop()
        try:
            service.wait_for_trouble(lane.bootstrap, within_s=15)
        finally:
            hurt_kafka.start()
        lane.send([FRAME] * 40)
        service.wait_for_settled(80)
        service.wait_for_ready(ready=True)
    assert service.error is None
    assert service.account.balances(0)
    assert lane.offsets() == 80
    assert_each_frame_has_one_event(lane, 80)


def test_a_broker_that_stands_still_for_longer_than_a_transaction_may_costs_nothing(
    hurt_kafka: FaultyKafka, lane: Lane, built: list[str]
) -> None:
    with running(lane, *built, *QUICK) as service:
        lane.send([FRAME] * 4)
        service.wait_for_settled(4)
        lane.send([FRAME] * 400)
        hurt_kafka.pause()
        try:
            service.wait_for_trouble("has not", "does not answer", "starting over", within_s=20)
            time.sleep(6)
        finally:
            hurt_kafka.resume()
        service.wait_for_settled(404)
        service.wait_for_ready(ready=True)
    assert service.error is None
    assert service.account.balances(0)
    assert lane.offsets() == 404
    assert_each_frame_has_one_event(lane, 404)


def test_a_topic_that_is_missing_at_start_ends_the_service(lane: Lane, built: list[str]) -> None:
    with running(lane, *built, f"kafka.topics.events={lane.events}.none") as service:
        error = service.wait_for_end()
    assert isinstance(error, BrokerError)
    assert error.exit_code == 3
    assert f"topic {lane.events}.none does not exist" in str(error)


@pytest.mark.parametrize("kind", ["frames", "events"])
def test_a_topic_that_is_deleted_ends_the_service(
    lane: Lane, built: list[str], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "METADATA_AGE_MS", 2_000)
    topic = getattr(lane, kind)
    with running(lane, *built, *QUICK) as service:
        lane.send([FRAME] * 4)
        service.wait_for_settled(4)
        with admin(lane) as client:
            client.delete_topics([topic])
        if kind == "events":
            lane.send([FRAME] * 4)
        error = service.wait_for_end()
    assert isinstance(error, BrokerError)
    assert error.exit_code == 3
    assert f"topic {topic} does not exist" in str(error)


def test_partitions_that_are_added_are_read_from_their_first_frame_wherever_the_group_began(
    lane: Lane, built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "METADATA_AGE_MS", 2_000)
    lane.send([FRAME] * 4)
    with running(lane, *built, "kafka.start=latest") as service:
        service.wait_for_ready(ready=True)
        wait_until(lambda: lane.offsets() == 4, "the end of each partition is committed")
        with admin(lane) as client:
            client.create_partitions({lane.frames: 6})
        lane.send([FRAME] * 12, partitions=6)
        service.wait_for_settled(12)
    assert service.error is None
    assert (service.account.taken, service.account.defective) == (12, 12)
    assert lane.offsets(partitions=6) == 16


def test_partitions_that_are_added_after_a_restart_are_read_as_well(
    lane: Lane, built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group's only member comes back under its name and is given what it had, without assigning anything."""
    monkeypatch.setattr(clients, "METADATA_AGE_MS", 2_000)
    lane.send([FRAME] * 4)
    with running(lane, *built) as service:
        service.wait_for_settled(4)
    with running(lane, *built) as service:
        service.wait_for_partitions()
        with admin(lane) as client:
            client.create_partitions({lane.frames: 6})
        lane.send([FRAME] * 12, partitions=6)
        service.wait_for_settled(12)
    assert service.error is None
    assert lane.offsets(partitions=6) == 16


def test_what_was_written_while_a_group_that_began_at_the_end_was_away_is_inspected(
    lane: Lane, built: list[str]
) -> None:
    lane.send([FRAME] * 4)
    with running(lane, *built, "kafka.start=latest"):
        wait_until(lambda: lane.offsets() == 4, "the end of each partition is committed")
    lane.send([FRAME] * 4)
    with running(lane, *built, "kafka.start=latest") as service:
        service.wait_for_settled(4)
    assert lane.offsets() == 8


def test_too_few_replicas_are_waited_for(hurt_kafka: FaultyKafka, lane: Lane, built: list[str], tmp_path: Path) -> None:
    # Whatever is made before the second broker comes stays with the first: of all topics only this one has a copy.
    copied = f"{lane.events}.copied"
    with running(lane, *built) as service:
        lane.send([FRAME] * 4)
        service.wait_for_settled(4)
    with SecondBroker(hurt_kafka, tmp_path) as second:
        with admin(lane) as client:
            copies = {"num_partitions": 1, "replication_factor": 2, "configs": {"min.insync.replicas": "2"}}
            client.create_topics({copied: copies}, wait_for_metadata=True)
        with running(lane, *built, *QUICK, f"kafka.topics.events={copied}") as service:
            lane.send([FRAME] * 4)
            service.wait_for_settled(4)
            second.stop()
            lane.send([FRAME] * 40)
            service.wait_for_trouble("NotEnoughReplicas", within_s=40)
            set_topic(lane, copied, min_insync_replicas="1")
            service.wait_for_settled(44)
            service.wait_for_ready(ready=True)
    assert service.error is None
    assert service.account.balances(0)
    assert lane.offsets() == 48
    with admin(lane) as client:
        # It has a copy on a broker that is gone for good, and the first one is to be stopped again.
        client.delete_topics([copied])


def test_a_quota_slows_the_service_down_and_nothing_else(hurt_kafka: FaultyKafka, lane: Lane, built: list[str]) -> None:
    client_id = f"millwatch-{lane.name}-1"
    limit = "--alter --entity-type clients --entity-name"
    hurt_kafka._run(
        "kafka-configs.sh", "--bootstrap-server", lane.bootstrap, *limit.split(), client_id,
        "--add-config", "consumer_byte_rate=40000,producer_byte_rate=40000",
    )  # fmt: skip
    frames = [FRAME + b"\0" * 20_000] * 20
    with running(lane, *built, *QUICK) as service:
        lane.send(frames)
        service.wait_for_settled(len(frames))
        assert (service.aborts, service.rebalances) == (0, 1)
    assert service.error is None
    assert_each_frame_has_one_event(lane, len(frames))


def test_frames_that_were_deleted_before_they_were_read_are_counted_and_the_rest_is_inspected(
    lane: Lane, built: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    lane.send([FRAME] * 8)
    with running(lane, *built) as service:
        service.wait_for_settled(8)
    lane.send([FRAME] * 40)
    with admin(lane) as client:
        client.delete_records({TopicPartition(lane.frames, 0): 7, TopicPartition(lane.frames, 1): 12})
    with running(lane, *built) as service:
        service.wait_for_settled(40 - 5 - 10)
        assert "millwatch_gone_frames_total 15.0" in service.probe("/metrics")[1]
    assert service.error is None
    assert service.account.balances(0)
    assert lane.offsets() == 48
    assert "frames are gone before they were read" in "".join(capfd.readouterr())


def test_a_name_that_is_taken_ends_an_idle_service(lane: Lane, built: list[str]) -> None:
    with running(lane, *built) as first:
        first.wait_for_ready(ready=True)
        first.wait_for_partitions()
        with running(lane, *built) as second:
            error = first.wait_for_end()
            second.wait_for_ready(ready=True)
        assert second.error is None
    assert isinstance(error, FencedError)
    assert error.exit_code == 7


@pytest.mark.parametrize(("limit", "delay_ms"), [(60_000, 0), (150_000, 1_000)])
def test_a_topic_that_takes_smaller_records_than_the_configuration_says_gets_what_fits(
    lane: Lane, built: list[str], limit: int, delay_ms: int
) -> None:
    """Also where the record has been refused long before its commit begins."""
    set_topic(lane, lane.dead, max_message_bytes=str(limit))
    set_topic(lane, lane.events, max_message_bytes=str(limit))
    with running(lane, *built, *QUICK, f"kafka.publish_delay_ms={delay_ms}") as service:
        lane.send([FRAME, b"x" * 300_000, FRAME, b"y"])
        service.wait_for_settled(4)
    assert service.error is None
    letters = lane.committed(lane.dead, lambda seen: len(seen) >= 2)
    assert sorted(len(letter.value) for letter in letters) == [0, 1]
    assert_each_frame_has_one_event(lane, 2)


@pytest.mark.parametrize("known", [True, False], ids=["before its commit", "within its commit"])
def test_a_record_that_is_refused_takes_the_offsets_of_its_transaction_with_it(lane: Lane, known: bool) -> None:
    set_topic(lane, lane.events, max_message_bytes="20000")
    with closing(clients.consumer(lane.settings())) as consumer:
        consumer.subscribe([lane.frames])
        share(consumer)
        with exactly_once(lane, consumer) as delivery:
            delivery.send(lane.events, b"cam", b"x" * 100_000, [])
            if known:
                wait_until(lambda: delivery._sent[0].is_done, "the record is refused")
            with pytest.raises(RecordTooLarge):
                delivery.commit({TopicPartition(lane.frames, 0): 5})
            delivery.abort()
            delivery.open()
            delivery.send(lane.events, b"cam", b"small", [])
            delivery.commit({TopicPartition(lane.frames, 1): 3})
    assert lane.offsets() == 3
    assert [event.value for event in lane.committed(lane.events, bool)] == [b"small"]


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_frames_of_a_commit_whose_answer_is_lost_are_neither_returned_nor_repeated(
    lane: Lane, built: list[str], delivery: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = ExactlyOnce if delivery == "exactly_once" else AtLeastOnce
    commit, lost = kind.commit, []

    def without_answer(self: Any, offsets: Any, mark: str = "") -> None:
        commit(self, offsets, mark)
        if not lost:
            lost.append(mark)
            raise DeliveryAborted("no answer")

    monkeypatch.setattr(kind, "commit", without_answer)
    with running(lane, *built, f"kafka.delivery={delivery}") as service:
        lane.send([FRAME] * 20)
        service.wait_for_settled(20)
    assert service.error is None
    assert lost
    assert (service.account.taken, service.account.defective, service.account.returned) == (
        20 + service.account.returned,
        20,
        service.account.returned,
    )
    assert service.account.balances(0)
    assert lane.offsets() == 20
    assert_each_frame_has_one_event(lane, 20)


def test_a_topic_that_is_made_again_under_the_service_is_read_from_its_first_frame(
    lane: Lane, built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "METADATA_AGE_MS", 1_000)
    monkeypatch.setattr("daemon.readiness.REFUSED_S", PATIENCE_S)
    with running(lane, *built, "kafka.start=latest") as service:
        service.wait_for_ready(ready=True)
        service.wait_for_partitions()
        lane.send([FRAME] * 20)
        service.wait_for_settled(20)
        with admin(lane) as client:
            client.delete_topics([lane.frames])
            wait_until(lambda: lane.frames not in client.list_topics(), "the topic is gone")
            client.create_topics({lane.frames: {"num_partitions": 4, "replication_factor": 1}}, wait_for_metadata=True)
        lane.send([FRAME] * 8)
        service.wait_for_settled(28)
    assert service.error is None
    assert service.account.balances(0)
    assert lane.offsets() == 8
