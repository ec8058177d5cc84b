"""Frames from files into the camera topic, as a camera would send them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

from crc32c import crc32c
from kafka import KafkaProducer
from kafka import errors as kafka_errors

from daemon.errors import BrokerError, BrokerUnreachableError
from daemon.frames import format_time, value_beside
from daemon.image_files import CONTENT_TYPES, RECORDING_SUFFIX, find_files
from daemon.kafka.rights import Right, refused_resource
from engines.errors import UsageError
from engines.image_headers import SIGNATURE_BYTES, format_of
from engines.recording import RecordedFrame, count_frames, read_recording

FILE_CAMERA = "replay"
"""Camera of image files where none is given. Without a key the client would choose partitions by chance, and frames of
one strip would lose their order."""

MAX_UNACKNOWLEDGED = 64
"""Frames sent whose acknowledgement is awaited: enough to keep the connection busy, some 10 MB of memory."""

ACKNOWLEDGE_S = 60.0
"""Longest wait for one acknowledgement; the producer gives up on its own before."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast frames are sent: ``rate`` in frames per second, or ``speed`` times as fast as they were recorded.

    With neither as fast as the broker takes them.
    """

    rate: float | None = None
    speed: float | None = None

    def gap_s(self, before: Outgoing, frame: Outgoing) -> float:
        """Seconds between two successive frames. Recordings that follow each other join without a pause."""
        if self.rate is not None:
            return 1 / self.rate
        if self.speed is None or frame.recorded_ms is None or before.recorded_ms is None:
            return 0.0
        if frame.source != before.source:
            return 0.0
        # Where a recording starts again its clock goes back: no pause either.
        return max(0.0, (frame.recorded_ms - before.recorded_ms) / 1000 / self.speed)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to send. ``source`` says where it comes from, ``recorded_ms`` is its time in the recording."""

    source: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    recorded_ms: int | None


@dataclass(frozen=True, slots=True)
class Footage:
    """What to replay. ``camera`` and ``coil`` replace those of the frames where they are given."""

    files: Sequence[Path]
    camera: str | None = None
    coil: str | None = None

    @classmethod
    def find(cls, paths: Sequence[Path], *, camera: str | None = None, coil: str | None = None) -> Footage:
        """All images and recordings under ``paths``. Raises :class:`UsageError` where there are none."""
        return cls(find_files(paths, (*CONTENT_TYPES, RECORDING_SUFFIX)), camera, coil)

    def count(self) -> int:
        """How many frames there are. Raises :class:`UsageError` for a recording that cannot be read."""
        return sum(count_frames(file) if _is_recording(file) else 1 for file in self.files)

    def without_signature(self) -> list[Path]:
        """The files that begin like no image that can be inspected. Raises :class:`UsageError` as :meth:`frames`."""
        # A pipe is passed over: what is read of it here would be missing from the frame.
        images = (file for file in self.files if file.is_file() and not _is_recording(file))
        return [file for file in images if format_of(_read(file, SIGNATURE_BYTES)) is None]

    @property
    def has_times(self) -> bool:
        """Whether any frame has the time at which it was recorded."""
        return any(_is_recording(file) for file in self.files)

    def frames(self) -> Iterator[Outgoing]:
        """The frames, read one after the other. Raises :class:`UsageError` for a file that cannot be read."""
        for number, file in enumerate(self.files):
            if _is_recording(file):
                for frame in read_recording(file):
                    yield self._recorded(frame, f"{number} {file}")
            else:
                yield self._image(file)

    def _recorded(self, frame: RecordedFrame, source: str) -> Outgoing:
        # The client takes no header without a value; for whoever reads it, an empty one says as little.
        headers = [(name, value or b"") for name, value in frame.headers]
        if not any(name == "captured-at" for name, _ in headers):
            headers.append(("captured-at", format_time(frame.timestamp).encode()))
        key, value = frame.key, frame.value
        if self.camera is not None:
            key = self.camera.encode()
        return Outgoing(source, key, value_beside(key, value), self._with_coil(headers), frame.timestamp)

    def _image(self, file: Path) -> Outgoing:
        value = _read(file)
        headers = [("frame-id", file.stem.encode()), ("crc32c", f"{crc32c(value):08x}".encode())]
        content_type = CONTENT_TYPES.get(file.suffix.lower())
        if content_type is not None:
            headers.append(("content-type", content_type.encode()))
        return Outgoing(str(file), (self.camera or FILE_CAMERA).encode(), value, self._with_coil(headers), None)

    def _with_coil(self, headers: list[tuple[str, bytes]]) -> tuple[tuple[str, bytes], ...]:
        if self.coil is None:
            return tuple(headers)
        return (*(header for header in headers if header[0] != "coil-id"), ("coil-id", self.coil.encode()))


@dataclass(slots=True)
class Sent:
    """What the broker has acknowledged so far."""

    frames: int = 0
    bytes: int = 0


class Replayer:
    """Sends frames with a producer that the caller owns. Not for use from several threads."""

    def __init__(
        self,
        producer: KafkaProducer,
        topic: str,
        *,
        on_sent: Callable[[Sent], None] = lambda _: None,
        stop: threading.Event | None = None,
    ) -> None:
        """``on_sent`` is told the sum whenever the broker has acknowledged a frame; ``stop`` ends a replay early."""
        self._producer = producer
        self._topic = topic
        self._on_sent = on_sent
        self._stop = stop or threading.Event()
        self._waiting: deque[tuple[Outgoing, Any]] = deque()
        self.sent = Sent()

    def send(self, footage: Footage, pace: Pace, *, loop: bool = False, limit: int | None = None) -> Sent:
        """Send all frames of the footage, over and over with ``loop``, at most ``limit`` of them.

        Returns when all frames sent are acknowledged. Raises :class:`BrokerError` where the broker does not take one;
        :attr:`sent` then says how many it took.
        """
        passes = repeat(footage) if loop else (footage,)
        frames = chain.from_iterable(one.frames() for one in passes)
        before: Outgoing | None = None
        due = time.monotonic()
        for frame in islice(frames, limit):
            if before is not None:
                # Whoever falls behind goes on from now: a burst to catch up would be another pace.
                due = max(due + pace.gap_s(before, frame), time.monotonic())
                self._wait_until(due)
            if self._stop.is_set():
                break
            self._send(frame)
            before = frame
        while self._waiting:
            self._acknowledge()
        return self.sent

    def _wait_until(self, due: float) -> None:
        while (left := due - time.monotonic()) > 0 and not self._stop.is_set():
            # Acknowledgements are taken in while there is time, so that progress is told while it is made.
            if self._waiting and self._waiting[0][1].is_done:
                self._acknowledge()
            else:
                self._stop.wait(min(left, 0.05))

    def _send(self, frame: Outgoing) -> None:
        try:
            future = self._producer.send(
                self._topic, value=frame.value, key=frame.key, headers=list(frame.headers), timestamp_ms=None
            )
        except kafka_errors.KafkaError as error:
            raise _refused(frame, self._topic, error) from error
        self._waiting.append((frame, future))
        while len(self._waiting) >= MAX_UNACKNOWLEDGED or (self._waiting and self._waiting[0][1].is_done):
            self._acknowledge()

    def _acknowledge(self) -> None:
        frame, future = self._waiting.popleft()
        try:
            future.get(timeout=ACKNOWLEDGE_S)
        except kafka_errors.KafkaError as error:
            raise _refused(frame, self._topic, error) from error
        self.sent.frames += 1
        self.sent.bytes += len(frame.value or b"")
        self._on_sent(self.sent)


def _is_recording(file: Path) -> bool:
    return file.suffix.lower() == RECORDING_SUFFIX


def _read(file: Path, most: int = -1) -> bytes:
    """The file's first ``most`` bytes, all of them by default."""
    try:
        with file.open("rb") as opened:
            return opened.read(most)
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror}") from None


def _refused(frame: Outgoing, topic: str, error: kafka_errors.KafkaError) -> BrokerError:
    size = len(frame.value or b"")
    if isinstance(error, kafka_errors.MessageSizeTooLargeError | kafka_errors.RecordListTooLargeError):
        return BrokerError(
            f"{frame.source}: a frame of {size} bytes is larger than topic {topic} takes: "
            "raise its max.message.bytes (and input.max_bytes)"
        )
    if isinstance(error, kafka_errors.KafkaTimeoutError):
        return BrokerUnreachableError(f"{frame.source}: topic {topic} took no frame in time: {error}")
    # A user who may write no topic at all is refused for the cluster, when the producer asks for its id.
    if refused_resource(error) is not None:
        return BrokerError(f"{frame.source}: {Right('Write', 'topic', topic).missing}")
    return BrokerError(f"{frame.source}: topic {topic} refused the frame: {error}")
