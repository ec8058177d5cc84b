"""Verdicts read back from the topics."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kafka import KafkaConsumer, KafkaProducer

from daemon.events import DefectEvent
from daemon.kafka import clients
from daemon.verdicts import VerdictReader, Verdicts
from tests.support.defect_events import defect, event
from tests.support.topics import PATIENCE_S, Lane


def events(*ids: str) -> dict[str, DefectEvent]:
    return {frame_id: event(id=frame_id) for frame_id in ids}


def test_a_frame_settles_once_however_many_verdicts_it_has():
    told = Verdicts(events("a", "b"))
    assert (told.settled, told.clean, told.defective) == (2, 2, 0)
    told.events["c"] = event([defect(3, None)], id="c")
    assert (told.settled, told.clean, told.defective) == (3, 2, 1)


@pytest.mark.kafka
class TestVerdictReader:
    @pytest.fixture
    def reader(self, lane: Lane) -> Iterator[VerdictReader]:
        settings = lane.settings()
        consumer: KafkaConsumer = clients.reader(settings)
        yield VerdictReader(consumer, settings)
        consumer.close()

    @staticmethod
    def send(lane: Lane, topic: str, value: bytes | None, **headers: str) -> None:
        producer = KafkaProducer(bootstrap_servers=lane.bootstrap)
        named = [(name.replace("_", "-"), text.encode()) for name, text in headers.items()]
        producer.send(topic, value, key=b"cam-1", headers=named, partition=0).get(PATIENCE_S)
        producer.close()

    @staticmethod
    def read(reader: VerdictReader, count: int) -> Verdicts:
        for _ in range(300):
            if reader.verdicts.settled + len(reader.verdicts.repeated) >= count:
                break
            reader.poll()
        return reader.verdicts

    def test_events_and_dead_letters_are_told_apart(self, lane: Lane, reader: VerdictReader):
        self.send(lane, lane.events, event(id="a").to_json())
        self.send(
            lane,
            lane.dead,
            b"broken",
            frame_id="f-1",
            millwatch_reason="truncated",
            millwatch_detail="the end is missing",
            millwatch_source="b",
        )
        told = self.read(reader, 2)
        assert list(told.events) == ["a"]
        (dead,) = told.dead.values()
        assert (dead.id, dead.frame, dead.camera) == ("b", "f-1", "cam-1")
        assert (dead.reason, dead.detail, dead.size_bytes) == ("truncated", "the end is missing", 6)

    def test_a_value_that_was_left_out_still_has_its_size(self, lane: Lane, reader: VerdictReader):
        self.send(
            lane, lane.dead, None, millwatch_reason="too-large", millwatch_source="b", millwatch_value_omitted="123456"
        )
        assert self.read(reader, 1).dead["b"].size_bytes == 123_456

    def test_a_second_verdict_is_noticed(self, lane: Lane, reader: VerdictReader):
        self.send(lane, lane.events, event(id="a").to_json())
        self.send(lane, lane.events, event(id="a").to_json())
        told = self.read(reader, 2)
        assert (told.settled, told.repeated) == (1, ["a"])
