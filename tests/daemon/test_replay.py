"""Frames from files: what is sent, how fast, and what a broker's refusal looks like. No broker here."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crc32c import crc32c
from kafka import errors as kafka_errors

from daemon import replay
from daemon.errors import BrokerError, BrokerUnreachableError
from daemon.replay import MAX_UNACKNOWLEDGED, Footage, Outgoing, Pace, Replayer, Sent
from engines.errors import UsageError
from engines.recording import RecordedFrame, write_recording


class Acknowledgement:
    def __init__(self, error: Exception | None = None) -> None:
        self.is_done = True
        self._error = error

    def get(self, timeout: float) -> None:
        if self._error is not None:
            raise self._error


class FakeProducer:
    """Keeps what is sent; ``fails`` says which frames are refused and how."""

    def __init__(self, fails: Callable[[int], Exception | None] = lambda _: None, slow: bool = False) -> None:
        self.sent: list[dict[str, Any]] = []
        self.most_unacknowledged = 0
        self._fails = fails
        self._slow = slow
        self._open = 0

    def send(self, topic: str, **record: Any) -> Acknowledgement:
        self.sent.append({"topic": topic, **record})
        acknowledgement = Acknowledgement(self._fails(len(self.sent)))
        if self._slow:
            self._open += 1
            self.most_unacknowledged = max(self.most_unacknowledged, self._open)
            acknowledgement.is_done = False
            acknowledgement.get = self._acknowledge  # type: ignore[method-assign]
        return acknowledgement

    def _acknowledge(self, timeout: float) -> None:
        self._open -= 1


class Clock:
    """Time that passes only while somebody waits."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


class Stop(threading.Event):
    """A stop whose waiting moves the clock."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        self._clock.now += timeout or 0
        return self.is_set()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(replay, "time", clock)
    return clock


def recorded(number: int, **changes: Any) -> RecordedFrame:
    values: dict[str, Any] = {
        "key": b"cam-1",
        "value": f"value {number}".encode(),
        "headers": (("frame-id", f"f-{number}".encode()),),
        "timestamp": 1_795_000_000_000 + 100 * number,
        "partition": 0,
        "offset": number,
    }
    return RecordedFrame(**{**values, **changes})


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "recording.parquet"
    write_recording(path, (recorded(number) for number in range(10)))
    return path


def headers(frame: Outgoing) -> dict[str, bytes]:
    return dict(frame.headers)


def test_a_recorded_frame_goes_as_it_came_with_its_time(recording: Path):
    footage = Footage.find([recording])
    frames = list(footage.frames())
    assert footage.count() == len(frames) == 10
    assert (frames[3].key, frames[3].value) == (b"cam-1", b"value 3")
    assert headers(frames[3]) == {"frame-id": b"f-3", "captured-at": b"2026-11-18T11:06:40.300Z"}


def test_a_recorded_capture_time_is_kept(tmp_path: Path):
    told = (("captured-at", b"2020-01-01T00:00:00Z"), ("x", None))
    write_recording(tmp_path / "r.parquet", [recorded(0, headers=told)])
    (frame,) = Footage.find([tmp_path / "r.parquet"]).frames()
    assert frame.headers == (("captured-at", b"2020-01-01T00:00:00Z"), ("x", b""))


def test_a_record_of_nothing_is_sent_as_an_empty_one(tmp_path: Path):
    write_recording(tmp_path / "r.parquet", [recorded(0, key=None, value=None), recorded(1, value=None)])
    first, second = Footage.find([tmp_path / "r.parquet"]).frames()
    assert (first.key, first.value) == (None, b"")
    assert (second.key, second.value) == (b"cam-1", None)


def test_camera_and_coil_replace_the_recorded_ones(tmp_path: Path):
    write_recording(tmp_path / "r.parquet", [recorded(0, headers=(("coil-id", b"old"), ("frame-id", b"f")))])
    (frame,) = Footage.find([tmp_path / "r.parquet"], camera="cam-9", coil="C7").frames()
    assert frame.key == b"cam-9"
    assert [value for name, value in frame.headers if name == "coil-id"] == [b"C7"]
    assert headers(frame)["frame-id"] == b"f"


def test_an_image_goes_byte_for_byte_with_name_checksum_and_type(tmp_path: Path):
    image = tmp_path / "strip 7.JPG"
    image.write_bytes(b"not even an image")
    (frame,) = Footage.find([image]).frames()
    assert (frame.key, frame.value, frame.recorded_ms) == (b"replay", b"not even an image", None)
    assert headers(frame) == {
        "frame-id": b"strip 7",
        "crc32c": f"{crc32c(b'not even an image'):08x}".encode(),
        "content-type": b"image/jpeg",
    }


def test_a_file_of_an_unknown_kind_says_nothing_of_its_type(tmp_path: Path):
    (tmp_path / "frame.xyz").write_bytes(b"")
    (frame,) = Footage.find([tmp_path / "frame.xyz"]).frames()
    assert "content-type" not in headers(frame)
    assert frame.value == b""


def test_folders_hold_images_and_recordings(tmp_path: Path, recording: Path):
    (tmp_path / "a.png").write_bytes(b"a")
    footage = Footage.find([tmp_path])
    assert footage.count() == 11
    assert footage.has_times
    assert next(iter(footage.frames())).value == b"a"


@pytest.mark.usefixtures("clock")
def test_all_frames_are_sent_in_order_and_counted(recording: Path):
    producer, told = FakeProducer(), list[tuple[int, int]]()
    replayer = Replayer(producer, "frames", on_sent=lambda sent: told.append((sent.frames, sent.bytes)))
    sent = replayer.send(Footage.find([recording]), Pace())
    assert sent == Sent(10, 70)
    assert told[-1] == (10, 70)
    assert [record["value"] for record in producer.sent] == [f"value {number}".encode() for number in range(10)]
    assert {(record["topic"], record["timestamp_ms"]) for record in producer.sent} == {("frames", None)}


def test_a_limit_counts_over_all_passes(recording: Path):
    producer = FakeProducer()
    assert Replayer(producer, "frames").send(Footage.find([recording]), Pace(), loop=True, limit=25).frames == 25
    assert Replayer(producer, "frames").send(Footage.find([recording]), Pace(), limit=3).frames == 3
    assert len(producer.sent) == 28
    assert producer.sent[10]["value"] == producer.sent[20]["value"] == b"value 0"


def test_a_rate_spaces_the_frames(recording: Path, clock: Clock):
    replayer = Replayer(FakeProducer(), "frames", stop=Stop(clock))
    replayer.send(Footage.find([recording]), Pace(rate=4), loop=True, limit=21)
    assert clock.now == pytest.approx(100 + 20 / 4)


@pytest.mark.parametrize(("speed", "seconds"), [(1, 0.9), (3, 0.3), (0.5, 1.8)])
def test_the_recorded_pace_is_kept(recording: Path, clock: Clock, speed: float, seconds: float):
    Replayer(FakeProducer(), "frames", stop=Stop(clock)).send(Footage.find([recording]), Pace(speed=speed))
    assert clock.now == pytest.approx(100 + seconds)


def test_recordings_and_passes_join_without_a_pause(tmp_path: Path, recording: Path, clock: Clock):
    write_recording(tmp_path / "next-day.parquet", [recorded(number) for number in (10_000_000, 10_000_001)])
    footage = Footage.find([recording, tmp_path / "next-day.parquet"])
    Replayer(FakeProducer(), "frames", stop=Stop(clock)).send(footage, Pace(speed=1), loop=True, limit=24)
    assert clock.now == pytest.approx(100 + 2 * (0.9 + 0.1))


def test_what_falls_behind_keeps_its_pace_and_does_not_rush(recording: Path, clock: Clock):
    def stall(number: int) -> None:
        clock.now += 10 if number == 5 else 0

    Replayer(FakeProducer(stall), "frames", stop=Stop(clock)).send(Footage.find([recording]), Pace(rate=10))
    # The stall took the place of one gap; the eight others are as long as ever.
    assert clock.now == pytest.approx(110 + 0.8)


def test_only_so_many_frames_wait_for_the_broker(recording: Path):
    producer = FakeProducer(slow=True)
    sent = Replayer(producer, "frames").send(Footage.find([recording]), Pace(), loop=True, limit=300)
    assert sent.frames == 300
    assert producer.most_unacknowledged == MAX_UNACKNOWLEDGED


def test_a_stop_ends_after_the_frames_on_their_way(recording: Path):
    stop = threading.Event()
    counter = itertools.count(1)

    def ask(_: Sent) -> None:
        if next(counter) == 4:
            stop.set()

    producer = FakeProducer()
    sent = Replayer(producer, "frames", on_sent=ask, stop=stop).send(Footage.find([recording]), Pace(), loop=True)
    assert sent.frames == len(producer.sent) == 4


def test_a_stop_does_not_wait_for_a_slow_pace(recording: Path):
    stop = threading.Event()
    timer = threading.Timer(0.05, stop.set)
    timer.start()
    started = time.monotonic()
    sent = Replayer(FakeProducer(), "frames", stop=stop).send(Footage.find([recording]), Pace(rate=0.01))
    timer.join()
    assert sent.frames == 1
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (
            kafka_errors.MessageSizeTooLargeError("big"),
            BrokerError,
            "a frame of 7 bytes is larger than topic frames takes",
        ),
        (kafka_errors.KafkaTimeoutError("late"), BrokerUnreachableError, "took no frame in time"),
        (kafka_errors.TopicAuthorizationFailedError("no"), BrokerError, "no right WRITE on topic frames"),
        (kafka_errors.InvalidTopicError("no"), BrokerError, "refused the frame"),
    ],
)
def test_a_refusal_names_the_frame_and_the_sum_is_true(
    recording: Path, error: Exception, kind: type[BrokerError], said: str
):
    replayer = Replayer(FakeProducer(lambda number: error if number == 3 else None), "frames")
    with pytest.raises(kind, match=said) as raised:
        replayer.send(Footage.find([recording]), Pace())
    assert raised.type is kind
    assert "recording.parquet" in str(raised.value)
    assert replayer.sent.frames == 2


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(UsageError, match=r"a\.png: cannot be read: Is a directory"):
        list(Footage([tmp_path / "a.png"]).frames())


def test_files_that_begin_like_no_image_are_found_and_sent_all_the_same(tmp_path: Path) -> None:
    starts = {
        "a.jpg": b"\xff\xd8\xff\xe0",
        "b.png": b"\x89PNG\r\n\x1a\n",
        "c.bmp": b"BM6",
        "d.tif": b"II*\0",
        "e.tif": b"MM\0+",
        "f.png": b"\x89PNG text",
        "g.jpg": b"",
        "h.md": b"# Millwatch",
    }
    for name, start in starts.items():
        (tmp_path / name).write_bytes(start)
    write_recording(tmp_path / "shift.parquet", [])
    footage = Footage.find([*sorted(tmp_path.iterdir())])
    assert [file.name for file in footage.without_signature()] == ["f.png", "g.jpg", "h.md"]
    assert [frame.value for frame in footage.frames()] == list(starts.values())


def test_of_a_pipe_nothing_is_read_before_it_is_sent(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    footage = Footage([tmp_path / "pipe.jpg"])
    assert footage.without_signature() == []
    writer = threading.Thread(target=lambda: (tmp_path / "pipe.jpg").write_bytes(b"whole"), name="writer")
    writer.start()
    assert [frame.value for frame in footage.frames()] == [b"whole"]
    writer.join()
