"""Frames as they come from the camera topic: who sent them, when, from where on the strip, and the bytes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeVar

from daemon.kafka.lenient import DamagedHeaders

T = TypeVar("T")

Headers = tuple[tuple[str, bytes | None], ...]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

UNKNOWN_CAMERA = "unknown"

MAX_CAMERA = 1000
"""Characters kept of a camera's name. A key may be megabytes, and it becomes the key of the frame's event."""


class Record(Protocol):
    """What is read of a consumer's record."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class FrameMeta:
    """Everything known of a frame beside its pixels.

    ``timestamp_ms`` is the record's, ``captured_at_ms`` the camera's where it is known and the record's otherwise; both
    in milliseconds since 1970, UTC. ``position_mm`` is along the strip. ``malformed`` names the headers that are only
    information and did not parse: they read as unknown.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    captured_at_ms: int
    key: bytes | None
    camera: str
    frame_id: str | None
    coil: str | None
    position_mm: float | None
    headers: Headers
    malformed: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """``topic-partition-offset``: the same for every inspection of this record."""
        return f"{self.topic}-{self.partition}-{self.offset}"

    def header(self, name: str) -> bytes | None:
        """The last value of a header; None where it is missing."""
        return last_header(self.headers, name)


@dataclass(frozen=True, slots=True)
class Frame:
    """One record of the camera topic: its meta data and its bytes, still encoded.

    ``damage`` says what is wrong with a record that could only be read in part.
    """

    meta: FrameMeta
    value: bytes | None
    damage: str | None = None


def last_header(headers: Headers, name: str) -> bytes | None:
    """The value of the last header of this name, as Kafka's own clients read repeated headers; None where missing."""
    return next((value for key, value in reversed(headers) if key == name), None)


def frame_of(record: Record) -> Frame:
    """The frame of a record; never fails, whatever the record holds."""
    headers: Headers = tuple(record.headers)
    malformed: list[str] = []
    captured = _parse(headers, "captured-at", parse_time, malformed)
    meta = FrameMeta(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp,
        captured_at_ms=record.timestamp if captured is None else captured,
        key=record.key,
        camera=camera_of(record.key),
        frame_id=_parse(headers, "frame-id", _identity, malformed),
        coil=_parse(headers, "coil-id", _identity, malformed),
        position_mm=_parse(headers, "position-mm", _finite, malformed),
        headers=headers,
        malformed=tuple(malformed),
    )
    damage = record.headers.detail if isinstance(record.headers, DamagedHeaders) else None
    return Frame(meta, record.value, damage)


def camera_of(key: bytes | None) -> str:
    """The camera's name: the record's key as UTF-8, ``unknown`` where it is missing or is not UTF-8, cut where longer
    than :data:`MAX_CAMERA`."""
    try:
        return key.decode()[:MAX_CAMERA] if key else UNKNOWN_CAMERA
    except UnicodeDecodeError:
        return UNKNOWN_CAMERA


def value_beside(key: bytes | None, value: bytes | None) -> bytes | None:
    """A value as it can be sent beside a key: the client takes no record that has neither, and for whoever reads it an
    empty value says as little as none."""
    return b"" if key is None and value is None else value


def parse_time(text: str) -> int:
    """Milliseconds since 1970, UTC, of an RFC 3339 time. Raises ValueError without an offset from UTC."""
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("no offset from UTC")
    return round((time - EPOCH) / timedelta(milliseconds=1))


def format_time(milliseconds: int) -> str:
    """RFC 3339 in UTC with milliseconds, of milliseconds since 1970."""
    # Whole numbers throughout: far from 1970 a float of seconds has no exact milliseconds any more.
    time = EPOCH + timedelta(milliseconds=milliseconds)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _parse(headers: Headers, name: str, parse: Callable[[str], T], malformed: list[str]) -> T | None:
    value = last_header(headers, name)
    if value is None:
        return None
    try:
        return parse(value.decode())
    except (ValueError, OverflowError):
        malformed.append(name)
        return None


def _identity(text: str) -> str:
    return text


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number
