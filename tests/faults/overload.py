"""Frames twice as fast as the service can take them: ``python -m tests.faults.overload --minutes 30``.

An Apache Kafka of its own and small frames for the tiny cascade. A filled topic shows first how fast the service is;
then frames come at a multiple of that rate while memory and metrics are sampled; then the feed stops and the service
works off what waits. In the end what was sent is compared with the service's account and with what a ``read_committed``
reader sees. Progress goes to standard error, a row of a table to standard output.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import cv2
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from daemon.apache_kafka import ApacheKafka
from daemon.daemon_process import DaemonProcess
from daemon.embedded_broker import free_port
from engines.build import build_cascade
from tests.support.tiny_cascade import frame_with, write_tiny_cascade
from tests.support.topics import Lane, new_lane

PARTITIONS: Final = 4
TICK_S: Final = 0.02
"""How often the feed sends what is due."""

OUTSTANDING: Final = 20_000
"""Frames that the feed may have sent without an answer: its client would hold any number."""

MEMORY_BAR: Final = 0.05
"""By how much the resident memory of the last fifth may differ from that of the second one."""

PATIENCE_S: Final = 60.0

CLEAN, DEFECTIVE, DEAD = "clean", "defective", "dead"
PATTERN: Final = (CLEAN, DEFECTIVE, CLEAN, CLEAN, DEFECTIVE, CLEAN, CLEAN, DEAD, CLEAN, DEFECTIVE)
"""What each ten frames are."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The service at one moment. ``sent`` are frames that the broker has taken, ``lag`` and the ages what the metrics
    say; ``at_s`` counts from the start of the feed, ``rss_mib`` is the process's resident memory."""

    at_s: float
    sent: int
    taken: int
    lag: int
    oldest_age_s: float
    unread_age_s: float
    held_bytes: int
    rss_mib: float


@dataclass(frozen=True, slots=True)
class Seen:
    """What a reader of committed records found: frames by verdict, of which some were seen again or never sent."""

    clean: int
    defective: int
    dead: int
    repeated: int
    wrong: int

    @property
    def frames(self) -> int:
        return self.clean + self.defective + self.dead


@dataclass(frozen=True, slots=True)
class Figures:
    """A run. Rates are frames a second, memory is in MiB; ``account`` is the service's own count."""

    minutes: float
    sustainable_fps: float
    fed_fps: float
    sent: dict[str, int]
    account: dict[str, int]
    seen: Seen
    drain_s: float
    rss_second_fifth_mib: float
    rss_last_fifth_mib: float
    rss_highest_mib: float
    lag_at_end: int
    unread_at_end: int
    unread_age_at_end_s: float
    true_age_at_end_s: float
    held_bytes_highest: int

    @property
    def memory_change(self) -> float:
        return self.rss_last_fifth_mib / self.rss_second_fifth_mib - 1

    @property
    def exact(self) -> bool:
        counts = {CLEAN: self.seen.clean, DEFECTIVE: self.seen.defective, DEAD: self.seen.dead}
        account = {kind: self.account[kind] for kind in counts}
        return self.sent == counts == account and not self.seen.repeated and not self.seen.wrong

    @property
    def visible(self) -> bool:
        """Whether lag and age were what they truly were, give or take what is in flight and some seconds."""
        late = max(10 * self.fed_fps, 0.2 * self.unread_at_end)
        old = max(10.0, 0.2 * self.true_age_at_end_s)
        return (
            abs(self.lag_at_end - self.unread_at_end) <= late
            and abs(self.unread_age_at_end_s - self.true_age_at_end_s) <= old
        )

    @property
    def flat(self) -> bool:
        return abs(self.memory_change) <= MEMORY_BAR


def values() -> dict[str, bytes]:
    """A frame of each kind."""
    clean, defective = frame_with(), frame_with({1: [(20, 10, 40, 30)]})
    png = {name: bytes(cv2.imencode(".png", image)[1]) for name, image in ((CLEAN, clean), (DEFECTIVE, defective))}
    return png | {DEAD: png[CLEAN][:60]}


class Feed:
    """Sends frames by their number, one partition after the other; kind and partition follow from the number."""

    def __init__(self, lane: Lane) -> None:
        self._producer = KafkaProducer(bootstrap_servers=lane.bootstrap, linger_ms=20, batch_size=2**17)
        self._topic = lane.frames
        self._values = values()
        self.sent = 0
        self._answered = 0
        self._failures: list[BaseException] = []

    def send(self, count: int) -> None:
        """Send frames; waits while too many have no answer yet."""
        for _ in range(count):
            while self.sent - self._answered >= OUTSTANDING:
                self._raise()
                time.sleep(TICK_S)
            kind = PATTERN[self.sent % len(PATTERN)]
            future = self._producer.send(
                self._topic, self._values[kind], key=b"cam-1", partition=self.sent % PARTITIONS
            )
            future.add_callback(self._answer)
            future.add_errback(self._failures.append)
            self.sent += 1
        self._raise()

    def flush(self) -> None:
        """Wait for all answers."""
        self._producer.flush(PATIENCE_S)
        deadline = time.monotonic() + PATIENCE_S
        while self._answered < self.sent:
            self._raise()
            if time.monotonic() > deadline:
                raise TimeoutError(f"the broker has answered {self._answered} of {self.sent} frames")
            time.sleep(TICK_S)

    def close(self) -> None:
        self._producer.close()

    def kinds(self) -> dict[str, int]:
        """How many frames of each kind were sent."""
        rounds, rest = divmod(self.sent, len(PATTERN))
        return {kind: rounds * PATTERN.count(kind) + PATTERN[:rest].count(kind) for kind in (CLEAN, DEFECTIVE, DEAD)}

    def _answer(self, _: object) -> None:
        self._answered += 1

    def _raise(self) -> None:
        if self._failures:
            raise self._failures[0]


class Watcher:
    """Asks a service for its metrics, and the system for its memory."""

    def __init__(self, service: DaemonProcess, port: int) -> None:
        self._service = service
        self._port = port
        self._started = time.monotonic()

    def metrics(self) -> dict[tuple[str, str], float]:
        """Values by name and label."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_S)
        try:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        finally:
            connection.close()
        return {
            (sample.name, ",".join(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def sample(self, sent: int) -> Sample:
        values = self.metrics()
        return Sample(
            at_s=time.monotonic() - self._started,
            sent=sent,
            taken=int(values["millwatch_frames_total", "taken"]),
            lag=int(sum(value for (name, _), value in values.items() if name == "millwatch_lag_frames")),
            oldest_age_s=values["millwatch_oldest_frame_age_seconds", ""],
            unread_age_s=values["millwatch_unread_age_seconds", ""],
            held_bytes=int(values["millwatch_held_bytes", ""]),
            rss_mib=self._rss_mib(),
        )

    def account(self) -> dict[str, int]:
        """The frames by what became of them, and those in flight."""
        values = self.metrics()
        outcomes = {label: int(value) for (name, label), value in values.items() if name == "millwatch_frames_total"}
        return outcomes | {"in flight": int(values["millwatch_in_flight_frames", ""])}

    def wait_for(self, frames: int, patience_s: float, on_look: Callable[[dict[str, int]], None]) -> float:
        """Wait until so many frames have a verdict; returns the seconds. The deadline is for standing still."""
        began = moved = time.monotonic()
        before = -1
        while True:
            account = self.account()
            done = account[CLEAN] + account[DEFECTIVE] + account[DEAD]
            on_look(account)
            if done >= frames and not account["in flight"]:
                return time.monotonic() - began
            if done > before:
                before, moved = done, time.monotonic()
            self._service.check()
            if time.monotonic() - moved > patience_s:
                raise TimeoutError(f"{done} of {frames} frames have a verdict, and no more came: {account}")
            time.sleep(0.1)

    def _rss_mib(self) -> float:
        status = Path(f"/proc/{self._service.pid}/status").read_text(encoding="ascii")
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) / 1024


def overload(
    folder: Path, bootstrap: str, *, minutes: float, rate: float, warm_up: int, samples: list[Sample]
) -> Figures:
    """Run it on a broker, in a folder of its own; ``warm_up`` frames fill the topic first, ``samples`` takes what was
    seen.

    Raises TimeoutError where the service or the broker stands still, UncommittedError where the service ends.
    """
    port = free_port()
    lane = new_lane(bootstrap, PARTITIONS)
    cascade = write_tiny_cascade(folder / "cascade")
    build_cascade(cascade, directory=folder / "engines", backend="openvino")
    settings = lane.settings(
        f"cascade={cascade}", f"engine.directory={folder / 'engines'}", f"http.port={port}", "events.publish=all"
    )
    feed = Feed(lane)
    try:
        feed.send(warm_up)
        feed.flush()
        with DaemonProcess(settings, folder) as service:
            service.wait_ready()
            watcher = Watcher(service, port)
            sustainable = _sustainable(watcher, warm_up)
            tell(f"sustainable: {sustainable:.0f} frames a second; feeding at {rate:g} times that")
            fed_s = _feed(feed, watcher, service, seconds=60 * minutes, fps=rate * sustainable, samples=samples)
            offsets = committed_offsets(lane)
            tell(f"fed {feed.sent - warm_up} frames in {fed_s:.0f} s; waiting for the drain")
            drain_s = watcher.wait_for(feed.sent, PATIENCE_S, _Told())
            account = watcher.account()
            service.stop()
    finally:
        feed.close()
    tell("reading what was committed")
    seen = read_back(lane, feed.sent)
    last = samples[-1]
    return Figures(
        minutes=minutes,
        sustainable_fps=sustainable,
        fed_fps=(feed.sent - warm_up) / fed_s,
        sent=feed.kinds(),
        account=account,
        seen=seen,
        drain_s=drain_s,
        rss_second_fifth_mib=mean_rss(samples, 1, 5),
        rss_last_fifth_mib=mean_rss(samples, 4, 5),
        rss_highest_mib=max(sample.rss_mib for sample in samples),
        lag_at_end=last.lag,
        unread_at_end=last.sent - sum(offsets),
        unread_age_at_end_s=last.unread_age_s,
        true_age_at_end_s=true_age_s(samples, offsets),
        held_bytes_highest=max(sample.held_bytes for sample in samples),
    )


def _sustainable(watcher: Watcher, frames: int) -> float:
    """Frames a second from a filled topic, without the first fifth: clients and engines are still waking up."""
    marks: list[tuple[float, int]] = []

    def note(account: dict[str, int]) -> None:
        marks.append((time.monotonic(), account[CLEAN] + account[DEFECTIVE] + account[DEAD]))

    watcher.wait_for(frames, PATIENCE_S, note)
    first = next(mark for mark in marks if mark[1] >= frames / 5)
    last = next(mark for mark in marks if mark[1] >= frames)
    if first == last:
        raise TimeoutError(f"{frames} frames were too few to tell how fast the service is")
    return (last[1] - first[1]) / (last[0] - first[0])


def _feed(
    feed: Feed, watcher: Watcher, service: DaemonProcess, *, seconds: float, fps: float, samples: list[Sample]
) -> float:
    """Send at this rate for so many seconds, and sample once a second; returns how long it took."""
    began = time.monotonic()
    before, sampled, told = feed.sent, began, began
    while (passed := time.monotonic() - began) < seconds:
        feed.send(max(0, round(passed * fps) - (feed.sent - before)))
        now = time.monotonic()
        if now - sampled >= 1.0:
            sampled = now
            service.check()
            samples.append(watcher.sample(feed.sent))
            if now - told >= 10.0:
                told = now
                tell(_line(samples[-1]))
        time.sleep(TICK_S)
    feed.flush()
    samples.append(watcher.sample(feed.sent))
    return time.monotonic() - began


def _line(sample: Sample) -> str:
    return (
        f"{sample.at_s:.0f} s: {sample.sent} sent, {sample.taken} taken, lag {sample.lag}, unread for "
        f"{sample.unread_age_s:.0f} s, {sample.held_bytes / 2**20:.1f} MiB held, {sample.rss_mib:.0f} MiB resident"
    )


class _Told:
    """Tells of the drain now and then."""

    def __init__(self) -> None:
        self._told = time.monotonic()

    def __call__(self, account: dict[str, int]) -> None:
        if time.monotonic() - self._told >= 10.0:
            self._told = time.monotonic()
            tell(f"draining: {account}")


def mean_rss(samples: Sequence[Sample], fifth: int, of: int) -> float:
    """Mean resident memory of a part of the samples, the first part being 0."""
    part = samples[len(samples) * fifth // of : max(len(samples) * (fifth + 1) // of, 1)] or samples[-1:]
    return sum(sample.rss_mib for sample in part) / len(part)


def true_age_s(samples: Sequence[Sample], committed_offsets: Sequence[int]) -> float:
    """How long ago the oldest frame without a committed verdict was sent, as of the last sample; from when the samples
    saw how many frames sent, and from the next offset of each partition."""
    last = samples[-1]
    numbers = [offset * PARTITIONS + partition for partition, offset in enumerate(committed_offsets)]
    oldest = min(numbers)
    if oldest >= last.sent:
        return 0.0
    for earlier, later in pairwise(samples):
        if earlier.sent <= oldest < later.sent:
            share = (oldest - earlier.sent) / (later.sent - earlier.sent)
            return last.at_s - (earlier.at_s + share * (later.at_s - earlier.at_s))
    return last.at_s


def committed_offsets(lane: Lane) -> list[int]:
    """The group's next offset of each partition."""
    consumer = KafkaConsumer(bootstrap_servers=lane.bootstrap, group_id=lane.name, enable_auto_commit=False)
    try:
        return [consumer.committed(TopicPartition(lane.frames, number)) or 0 for number in range(PARTITIONS)]
    finally:
        consumer.close()


def read_back(lane: Lane, sent: int) -> Seen:
    """Every committed event and dead letter, each checked against the number of its frame."""
    seen = [bytearray(-(-(sent - partition) // PARTITIONS)) for partition in range(PARTITIONS)]
    counts = {CLEAN: 0, DEFECTIVE: 0, DEAD: 0}
    repeated = wrong = 0
    for topic in (lane.events, lane.dead):
        for record in committed(lane.bootstrap, topic):
            headers = dict(record.headers)
            source, verdict = (
                (headers["ce_id"], json.loads(record.value)["verdict"])
                if topic == lane.events
                else (headers["millwatch-source"], DEAD)
            )
            _, partition, offset = source.decode().rsplit("-", 2)
            number = int(offset) * PARTITIONS + int(partition)
            if number >= sent or PATTERN[number % len(PATTERN)] != verdict:
                wrong += 1
                continue
            repeated += seen[int(partition)][int(offset)]
            counts[verdict] += 1
            seen[int(partition)][int(offset)] = 1
    return Seen(clean=counts[CLEAN], defective=counts[DEFECTIVE], dead=counts[DEAD], repeated=repeated, wrong=wrong)


def committed(bootstrap: str, topic: str) -> Any:
    """The committed records of a topic, up to its present end."""
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=2**23,
        max_poll_records=5_000,
    )
    try:
        partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)
        moved = time.monotonic()
        # Positions pass the markers of transactions, which are no records.
        while any(consumer.position(partition) < end for partition, end in ends.items()):
            for records in consumer.poll(200).values():
                moved = time.monotonic()
                yield from records
            if time.monotonic() - moved > PATIENCE_S:
                raise TimeoutError(f"no more records of {topic} came before its end")
    finally:
        consumer.close()


def row(figures: Figures) -> str:
    """The figures as a row of a table, below :data:`HEADER`."""
    seen, sent = figures.seen, sum(figures.sent.values())
    return (
        f"| {figures.minutes:g} | {figures.sustainable_fps:.0f} | {figures.fed_fps:.0f} | {sent:,} | {seen.clean:,} "
        f"| {seen.defective:,} | {seen.dead:,} | {sent - seen.frames + seen.repeated:,} | {seen.repeated:,} "
        f"| {seen.wrong:,} | {figures.lag_at_end:,} of {figures.unread_at_end:,} "
        f"| {figures.unread_age_at_end_s:.0f} of {figures.true_age_at_end_s:.0f} "
        f"| {figures.rss_second_fifth_mib:.1f}, {figures.rss_last_fifth_mib:.1f} ({figures.memory_change:+.1%}) "
        f"| {figures.drain_s:.0f} |"
    )


HEADER: Final = (
    "| minutes | sustainable, 1/s | fed, 1/s | sent | clean | defective | dead | lost | repeated | wrong "
    "| lag shown at the end | age of unread, s | MiB in the second and last fifth | drain, s |\n"
    f"|{' --- |' * 14}"
)


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long frames come too fast")
    parser.add_argument("--rate", type=float, default=2.0, help="how many times as fast as the service is")
    parser.add_argument("--warm-up", type=int, default=20_000, help="frames that show how fast the service is")
    parser.add_argument("--json", type=Path, help="where the figures and all samples go")
    options = parser.parse_args(arguments)
    samples: list[Sample] = []
    # Broker and service have sessions of their own, and would run on.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with ApacheKafka(folder) as broker:
            figures = overload(
                folder,
                broker.bootstrap,
                minutes=options.minutes,
                rate=options.rate,
                warm_up=options.warm_up,
                samples=samples,
            )
    if options.json:
        everything = asdict(figures) | {"samples": [asdict(sample) for sample in samples]}
        options.json.write_text(json.dumps(everything, indent=1), encoding="utf-8")
    print(HEADER)
    print(row(figures))
    for good, what in (
        (figures.exact, f"sums exact: {figures.sent}, {figures.account}, {figures.seen}"),
        (figures.visible, "lag and age of unread frames visible"),
        (figures.flat, f"memory flat within {MEMORY_BAR:.0%}: {figures.memory_change:+.1%}"),
    ):
        tell(f"{'ok' if good else 'FAILED'}: {what}")
    return 0 if figures.exact and figures.visible and figures.flat else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
