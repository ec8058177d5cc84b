"""The way through a broker: topics of the run's own, frames put on them, and the service that reads them."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka import errors as kafka_errors

from daemon.bench.result import Measured
from daemon.bench.service_process import ServiceProcess
from daemon.bench.workload import resent_headers
from daemon.errors import BrokerError
from daemon.kafka import clients, diagnose, topics
from daemon.settings import Settings, load_settings
from daemon.wording import counted
from engines.errors import MillwatchError
from engines.recording import RecordedFrame

COMMITTED_S = 0.25
"""Time between two questions to the broker how many frames are committed."""

SLOWEST_FPS = 2.0
"""A service that is slower than this is taken for stuck."""

SEND_TIMEOUT_S = 60.0

EVENTS_TIMEOUT_S = 30.0
"""How long commits and events may take after the frames were inspected."""

READ_TIMEOUT_MS = 200
"""How often the reader of events looks whether it is to end; records are handed over as they come."""


@dataclass(frozen=True, slots=True)
class Options:
    """The command line's ``--config`` and ``--set``, which the service is given again."""

    config: Path | None
    overrides: tuple[str, ...]

    def settings(self, *more: str) -> Settings:
        """The settings with more overrides after those of the command line."""
        return load_settings(self.config, (*self.overrides, *more))

    def arguments(self, more: Sequence[str]) -> list[str]:
        """The same for another process."""
        config = [] if self.config is None else ["--config", str(self.config)]
        return config + [part for override in (*self.overrides, *more) for part in ("--set", override)]


@dataclass(frozen=True, slots=True)
class Lane:
    """Topics and a group that only one measurement uses. ``overrides`` are the settings that lead there."""

    options: Options
    overrides: tuple[str, ...]
    settings: Settings
    admin: KafkaAdminClient

    def service(self) -> ServiceProcess:
        """The service on this lane, to be started."""
        return ServiceProcess(self.options.arguments(self.overrides))

    def wait_until_committed(self, frames: int, timeout_s: float) -> None:
        """Return when so many frames are committed. Raises MillwatchError where that takes too long."""
        deadline = time.monotonic() + timeout_s
        while (committed := self._committed()) < frames:
            if time.monotonic() > deadline:
                raise MillwatchError(f"{committed} of {counted(frames, 'frame')} committed after {timeout_s:.0f} s")
            time.sleep(COMMITTED_S)

    def _committed(self) -> int:
        group = self.settings.kafka.group
        try:
            return sum(at.offset for at in self.admin.list_group_offsets(group)[group].values())
        except kafka_errors.RetriableError:
            # The connection to the group's coordinator is still being made, or the broker looks for one.
            return 0


@contextmanager
def open_lane(options: Options, bootstrap: str) -> Iterator[Lane]:
    """A lane on a broker; its topics end with the context. Raises BrokerError."""
    name = f"millwatch-bench-{uuid.uuid4().hex[:8]}"
    overrides = (
        f"kafka.bootstrap={bootstrap}",
        f"kafka.group={name}",
        f"kafka.instance={name}",
        f"kafka.topics.frames={name}.frames",
        f"kafka.topics.events={name}.events",
        f"kafka.topics.dead={name}.dead",
        "kafka.start=earliest",
        "http.port=0",
    )
    settings = options.settings(*overrides)
    with diagnose.connected(settings) as admin:
        states = topics.topic_states(admin, settings)
        topics.create_topics(admin, settings, states)
        try:
            yield Lane(options, overrides, settings, admin)
        finally:
            admin.delete_topics([state.name for state in states])


def fill(lane: Lane, frames: Sequence[RecordedFrame]) -> None:
    """Put all frames on the camera topic and wait until the broker has them."""
    producer = clients.frame_producer(lane.settings)
    try:
        sent = [
            producer.send(
                lane.settings.kafka.topics.frames, frame.value, key=frame.key, headers=list(resent_headers(frame))
            )
            for frame in frames
        ]
        for future in sent:
            future.get(SEND_TIMEOUT_S)
    except kafka_errors.KafkaError as error:
        raise BrokerError(f"the broker does not take the frames: {type(error).__name__}: {error}") from error
    finally:
        producer.close()


def measure_end_to_end(lane: Lane, frames: Sequence[RecordedFrame]) -> tuple[Measured, int]:
    """From a filled topic to committed events: the speed, and the service's largest resident memory in bytes.

    The clock is the service's own, from the first frame that it takes to its last commit, so its start is left out.
    """
    fill(lane, frames)
    with lane.service() as service:
        service.wait_until_reading()
        lane.wait_until_committed(len(frames), EVENTS_TIMEOUT_S + len(frames) / SLOWEST_FPS)
        account = service.stop()
    inspected = account["clean"] + account["defective"]
    if inspected != len(frames) or account["aborts"]:
        raise MillwatchError(f"{counted(len(frames), 'frame')} sent, but the service's account is {dict(account)}")
    return Measured(inspected, account["seconds"], account["cpu_seconds"]), service.peak_resident_bytes


def measure_latency(lane: Lane, frames: Sequence[RecordedFrame], fps: float, warm_up: int) -> tuple[list[float], int]:
    """Milliseconds from each frame's timestamp to the moment at which a ``read_committed`` reader has its event.

    Frames come at a steady ``fps``; those that cause no event have no latency, and the first ``warm_up`` do not count.
    The producer gives the timestamp just before it sends, so the append itself is part of the time. Returns the
    latencies and the service's largest resident memory in bytes.
    """
    with lane.service() as service, _EventReader(lane.settings) as reader:
        service.wait_until_reading()
        sent = _send_steadily(lane.settings, frames, fps)
        lane.wait_until_committed(len(frames), EVENTS_TIMEOUT_S + len(frames) / SLOWEST_FPS)
        account = service.stop()
        reader.wait_for(account["defective"])
        appended = dict(sent[warm_up:])
    latencies = [seen_ms - appended[frame] for frame, seen_ms in reader.seen.items() if frame in appended]
    if not latencies:
        raise MillwatchError("no frame of the latency measurement caused an event: raise --frames or --defect-rate")
    return latencies, service.peak_resident_bytes


def _send_steadily(settings: Settings, frames: Sequence[RecordedFrame], fps: float) -> list[tuple[str, float]]:
    """Send one frame every ``1 / fps`` seconds; returns each one's event id and timestamp in milliseconds."""
    topic = settings.kafka.topics.frames
    producer = clients.frame_producer(settings)
    sent = []
    try:
        due = time.monotonic()
        for frame in frames:
            time.sleep(max(0.0, due - time.monotonic()))
            due += 1 / fps
            # Without its captured-at of the recording, the frame is as old as its record.
            headers = [header for header in resent_headers(frame) if header[0] != "captured-at"]
            timestamp_ms = time.time_ns() // 1_000_000
            future = producer.send(topic, frame.value, key=frame.key, headers=headers, timestamp_ms=timestamp_ms)
            sent.append((future, timestamp_ms))
        records = [(future.get(SEND_TIMEOUT_S), timestamp_ms) for future, timestamp_ms in sent]
    except kafka_errors.KafkaError as error:
        raise BrokerError(f"the broker does not take the frames: {type(error).__name__}: {error}") from error
    finally:
        producer.close()
    return [(f"{record.topic}-{record.partition}-{record.offset}", ms) for record, ms in records]


class _EventReader:
    """A thread that reads committed events and notes when it saw each: milliseconds since 1970 by the event's id."""

    def __init__(self, settings: Settings) -> None:
        self._consumer: KafkaConsumer = clients.reader(settings, start="earliest")
        topic = settings.kafka.topics.events
        partitions = sorted(self._consumer.partitions_for_topic(topic))
        self._consumer.assign([TopicPartition(topic, number) for number in partitions])
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, name="event-reader")
        self.seen: dict[str, float] = {}

    def __enter__(self) -> _EventReader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._consumer.close()

    def wait_for(self, events: int) -> None:
        """Return when so many events were seen. Raises MillwatchError where they do not come."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.seen) >= events, EVENTS_TIMEOUT_S):
                raise MillwatchError(f"{len(self.seen)} of {events} events can be read after {EVENTS_TIMEOUT_S:.0f} s")

    def _read(self) -> None:
        while not self._stop.is_set():
            for records in self._consumer.poll(READ_TIMEOUT_MS).values():
                now_ms = time.time_ns() / 1e6
                with self._changed:
                    for record in records:
                        identity = next(value for name, value in record.headers if name == "ce_id")
                        self.seen.setdefault(identity.decode(), now_ms)
                    self._changed.notify_all()
