"""What a run has said of its frames, read back from the topics: events and dead letters, each frame once."""

from __future__ import annotations

from dataclasses import dataclass, field

from kafka import KafkaConsumer

from daemon.deadletters import DeadFrame, dead_frame
from daemon.events import DefectEvent
from daemon.kafka.session import partitions_of
from daemon.settings import Settings

POLL_MS = 100


@dataclass(slots=True)
class Verdicts:
    """Verdicts by the frame's id. ``repeated`` names frames that have more than one, which exactly once forbids."""

    events: dict[str, DefectEvent] = field(default_factory=dict)
    dead: dict[str, DeadFrame] = field(default_factory=dict)
    repeated: list[str] = field(default_factory=list)

    @property
    def settled(self) -> int:
        """Frames that have a verdict."""
        return len(self.events.keys() | self.dead.keys())

    @property
    def defective(self) -> int:
        """Frames with a defect."""
        return sum(1 for event in self.events.values() if event.defects)

    @property
    def clean(self) -> int:
        """Frames without one; complete only where events of all frames are published."""
        return len(self.events) - self.defective


class VerdictReader:
    """Reads both result topics from their beginning, with a consumer of committed records that the caller owns."""

    def __init__(self, consumer: KafkaConsumer, settings: Settings) -> None:
        self.verdicts = Verdicts()
        self._consumer = consumer
        self._dead_topic = settings.kafka.topics.dead
        topics = (settings.kafka.topics.events, settings.kafka.topics.dead)
        partitions = [partition for topic in topics for partition in partitions_of(consumer, topic)]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)

    def poll(self) -> tuple[list[DefectEvent], list[DeadFrame]]:
        """Wait shortly for new verdicts, keep them and return them."""
        events: list[DefectEvent] = []
        dead: list[DeadFrame] = []
        for partition, records in self._consumer.poll(timeout_ms=POLL_MS).items():
            if partition.topic == self._dead_topic:
                dead += [dead_frame(record.key, record.value, tuple(record.headers)) for record in records]
            else:
                events += [DefectEvent.model_validate_json(record.value) for record in records]
        for event in events:
            self._once(event.id)
            self.verdicts.events[event.id] = event
        for frame in dead:
            self._once(frame.id)
            self.verdicts.dead[frame.id] = frame
        return events, dead

    def _once(self, frame_id: str) -> None:
        if frame_id in self.verdicts.events or frame_id in self.verdicts.dead:
            self.verdicts.repeated.append(frame_id)
