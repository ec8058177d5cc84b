"""Ranges of the camera topic, on a broker."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import islice

import pytest
from kafka import KafkaConsumer, KafkaProducer

from daemon.errors import BrokerError
from daemon.frames import format_time
from daemon.kafka import clients
from daemon.record import MAX_BUFFERED, Bound, RangeReader, parse_bound, recorded
from engines.errors import UsageError
from tests.support.topics import PATIENCE_S, Lane

EARLIEST, LATEST = Bound("earliest"), Bound("latest")

START_MS = round(time.time() * 1000) - 3_600_000
"""An hour ago: brokers may take much older records for expired."""


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("earliest", EARLIEST),
        ("latest", LATEST),
        ("0", Bound("offset", 0)),
        ("4711", Bound("offset", 4711)),
        ("2026-11-22T10:00:00Z", Bound("time", 1_795_341_600_000)),
        ("2026-11-22T11:00:00.250+01:00", Bound("time", 1_795_341_600_250)),
        ("1960-01-01T00:00:00Z", Bound("time", 0)),
    ],
)
def test_a_bound_is_read(text: str, bound: Bound):
    assert parse_bound(text, "--from") == bound


@pytest.mark.parametrize("text", ["", "yesterday", "-1", "1.5", "2026-11-22T10:00:00", "²"])
def test_what_is_no_bound_is_refused(text: str):
    with pytest.raises(UsageError, match=f"--until {text}: neither earliest, latest, an offset nor a time"):
        parse_bound(text, "--until")


@pytest.fixture
def consumer(lane: Lane) -> Iterator[KafkaConsumer]:
    consumer = clients.reader(lane.settings())
    yield consumer
    consumer.close()


def fill(lane: Lane, count: int, partitions: int = 2, first_ms: int = START_MS) -> None:
    """Frames that came 100 ms after each other, dealt out to partitions."""
    producer = KafkaProducer(bootstrap_servers=lane.bootstrap)
    sent = [
        producer.send(
            lane.frames,
            f"value {number}".encode(),
            key=b"cam-1",
            partition=number % partitions,
            headers=[("frame-id", str(number).encode())],
            timestamp_ms=first_ms + 100 * number,
        )
        for number in range(count)
    ]
    for future in sent:
        future.get(PATIENCE_S)
    producer.close()


def numbers(reader: RangeReader) -> list[int]:
    return [int(frame.header("frame-id") or "") for frame in map(recorded, reader)]


def read(consumer: KafkaConsumer, lane: Lane, start: Bound, until: Bound | None) -> RangeReader:
    return RangeReader(consumer, lane.frames, start=start, until=until, stop=threading.Event())


@pytest.mark.kafka
class TestRangeReader:
    def test_everything_comes_in_order_of_arrival(self, lane: Lane, consumer: KafkaConsumer):
        # More than may be buffered, and one partition much longer than the other.
        fill(lane, 2 * MAX_BUFFERED)
        fill(lane, 3 * MAX_BUFFERED, partitions=1)
        reader = read(consumer, lane, EARLIEST, LATEST)
        assert reader.total() == 5 * MAX_BUFFERED
        frames = [recorded(record) for record in reader]
        assert len(frames) == 5 * MAX_BUFFERED
        for partition in (0, 1):
            offsets = [frame.offset for frame in frames if frame.partition == partition]
            assert offsets == list(range(len(offsets)))
        # The second filling begins again in the past, which within a partition stays behind what came before.
        even = [frame.timestamp for frame in frames if frame.partition == 1]
        assert even == sorted(even)

    def test_partitions_are_merged_by_time(self, lane: Lane, consumer: KafkaConsumer):
        fill(lane, 100, partitions=4)
        assert numbers(read(consumer, lane, EARLIEST, LATEST)) == list(range(100))

    def test_a_frame_is_kept_byte_for_byte(self, lane: Lane, consumer: KafkaConsumer):
        fill(lane, 1)
        (frame,) = map(recorded, read(consumer, lane, EARLIEST, LATEST))
        assert (frame.key, frame.value, frame.timestamp) == (b"cam-1", b"value 0", START_MS)
        assert (frame.headers, frame.partition, frame.offset) == ((("frame-id", b"0"),), 0, 0)

    def test_a_range_of_times_has_its_start_and_not_its_end(self, lane: Lane, consumer: KafkaConsumer):
        fill(lane, 10)
        start, until = (parse_bound(format_time(START_MS + offset), "--from") for offset in (300, 700))
        assert numbers(read(consumer, lane, start, until)) == [3, 4, 5, 6]

    def test_a_range_of_offsets_counts_for_every_partition(self, lane: Lane, consumer: KafkaConsumer):
        fill(lane, 9, partitions=2)
        reader = read(consumer, lane, Bound("offset", 2), Bound("offset", 4))
        assert reader.total() == 4
        assert numbers(reader) == [4, 5, 6, 7]

    def test_offsets_beyond_a_short_partition_end_at_its_end(self, lane: Lane, consumer: KafkaConsumer):
        fill(lane, 3, partitions=2)
        assert numbers(read(consumer, lane, Bound("offset", 1), Bound("offset", 1_000))) == [2]
        assert numbers(read(consumer, lane, Bound("offset", 500), LATEST)) == []

    def test_an_empty_topic_is_an_empty_range(self, lane: Lane, consumer: KafkaConsumer):
        reader = read(consumer, lane, EARLIEST, LATEST)
        assert reader.total() == 0
        assert numbers(reader) == []

    def test_an_open_range_takes_what_comes(self, lane: Lane, consumer: KafkaConsumer):
        fill(lane, 4)
        reader = read(consumer, lane, LATEST, None)
        assert reader.total() is None
        fill(lane, 6)
        assert len(list(islice(reader, 6))) == 6

    def test_an_end_in_the_future_is_waited_for(self, lane: Lane, consumer: KafkaConsumer):
        fill(lane, 4)
        until = Bound("time", round(time.time() * 1000) + 700)
        reader = read(consumer, lane, EARLIEST, until)
        assert reader.total() is None
        assert numbers(reader) == [0, 1, 2, 3]
        assert time.time() * 1000 >= until.value

    def test_what_comes_before_a_start_or_after_an_end_in_the_future_is_left_out(
        self, lane: Lane, consumer: KafkaConsumer
    ):
        now = round(time.time() * 1000)
        reader = read(consumer, lane, Bound("time", now + 1_000), Bound("time", now + 2_000))
        fill(lane, 3, first_ms=now)
        fill(lane, 2, first_ms=now + 1_500)
        fill(lane, 4, first_ms=now + 5_000)
        frames = [recorded(record) for record in reader]
        assert sorted(frame.timestamp - now for frame in frames) == [1_500, 1_600]

    def test_a_stop_ends_an_open_range(self, lane: Lane, consumer: KafkaConsumer):
        fill(lane, 2)
        stop = threading.Event()
        reader = RangeReader(consumer, lane.frames, start=EARLIEST, until=None, stop=stop)
        seen = []
        for record in reader:
            seen.append(record.offset)
            if len(seen) == 2:
                stop.set()
        assert len(seen) == 2

    def test_a_missing_topic_is_named(self, consumer: KafkaConsumer):
        with pytest.raises(BrokerError, match=r"topic no\.such does not exist") as raised:
            RangeReader(consumer, "no.such", start=EARLIEST, until=None, stop=threading.Event())
        assert raised.value.exit_code == 3
