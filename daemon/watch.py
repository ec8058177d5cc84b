"""Defect events as they come."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Literal

import structlog
from kafka import KafkaConsumer
from pydantic import ValidationError

from daemon.events import DefectEvent
from daemon.kafka.session import partitions_of

log = structlog.get_logger(__name__)

POLL_MS = 200
"""Longest wait for an event, and so for a stop to be noticed."""


def follow_events(
    consumer: KafkaConsumer,
    topic: str,
    *,
    start: Literal["earliest", "latest"],
    until_idle_s: float | None = None,
    stop: threading.Event,
) -> Iterator[DefectEvent]:
    """The events of a topic, as the consumer (the caller's, reading only what is committed) gets them.

    Ends when ``stop`` is set, or after ``until_idle_s`` seconds without an event. What is no event of ours is passed
    over with a warning. Raises :class:`daemon.errors.BrokerError` where the topic is missing.
    """
    partitions = partitions_of(consumer, topic)
    consumer.assign(partitions)
    if start == "earliest":
        consumer.seek_to_beginning(*partitions)
    else:
        # Asked for now, not at the first poll: an event that comes in between belongs to what follows.
        for partition, offset in consumer.end_offsets(partitions).items():
            consumer.seek(partition, offset)
    last = time.monotonic()
    while not stop.is_set():
        for records in consumer.poll(timeout_ms=POLL_MS).values():
            for record in records:
                # Hundreds may have come at once, and whoever reads them may take a picture of each.
                if stop.is_set():
                    return
                try:
                    event = DefectEvent.model_validate_json(record.value or b"")
                except ValidationError as error:
                    where = f"{record.topic}-{record.partition}-{record.offset}"
                    log.warning("not a defect event", record=where, problems=error.error_count())
                    continue
                yield event
                last = time.monotonic()
        if until_idle_s is not None and time.monotonic() - last > until_idle_s:
            return
