"""Dead letters: the record of a frame that could not be inspected, with the reason in its headers, and back."""

from __future__ import annotations

from dataclasses import dataclass

from daemon.frames import Frame, camera_of, format_time, last_header, value_beside
from daemon.pipeline import Rejection

REASON = "millwatch-reason"
DETAIL = "millwatch-detail"
SOURCE = "millwatch-source"
VALUE_OMITTED = "millwatch-value-omitted"
CAPTURED_AT = "millwatch-captured-at"
REDRIVEN = "millwatch-redriven"

MAX_DETAIL_BYTES = 500
"""A detail is a sentence for a person; a longer one is cut."""

RECORD_OVERHEAD = 512
"""Bytes that a record takes on the wire beside key, value and headers: batch header, lengths, times, rounded up."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record for the dead-letter topic."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class DeadFrame:
    """What a record of the dead-letter topic tells of a frame. ``id`` is the frame's on the camera topic."""

    id: str
    frame: str | None
    camera: str
    reason: str
    detail: str
    size_bytes: int


def dead_letter(frame: Frame, rejection: Rejection, max_message_bytes: int) -> DeadLetter:
    """The frame's own key, value and headers, with the reason added.

    Where all of it would pass ``max_message_bytes`` the value is left out and a header tells its size; headers that are
    too large even so are left out from the largest on, and last the key, since the reason and the source must always
    arrive.
    """
    key = frame.meta.key
    own = [
        (name, value or b"")
        for name, value in frame.meta.headers
        if not name.startswith("millwatch-") or name == REDRIVEN
    ]
    added = [
        (REASON, rejection.reason.encode()),
        (DETAIL, rejection.detail.encode()[:MAX_DETAIL_BYTES].decode(errors="ignore").encode()),
        (SOURCE, frame.meta.id.encode()),
    ]
    captured = capture_time(frame.meta.timestamp_ms)
    if captured is not None and frame.meta.header("captured-at") is None:
        # The letter has a time of its own, and where the frame was is soon gone.
        added.append((CAPTURED_AT, captured))
    value = frame.value
    if record_size(key, value, own + added) > max_message_bytes:
        added.append((VALUE_OMITTED, str(len(value or b"")).encode()))
        value = None if value is None else b""
    while own and record_size(key, value, own + added) > max_message_bytes:
        own.remove(max(own, key=lambda header: len(header[0].encode()) + len(header[1])))
    if record_size(key, value, own + added) > max_message_bytes:
        key = None
    return DeadLetter(key, value_beside(key, value), own + added)


def dead_frame(key: bytes | None, value: bytes | None, headers: tuple[tuple[str, bytes | None], ...]) -> DeadFrame:
    """What such a record tells, read back. Whatever else is on the topic tells that its reason is unknown."""

    def text(name: str) -> str | None:
        found = last_header(headers, name)
        return None if found is None else found.decode(errors="replace")

    omitted = text(VALUE_OMITTED)
    return DeadFrame(
        id=text(SOURCE) or "unknown",
        frame=text("frame-id"),
        camera=camera_of(key),
        reason=text(REASON) or "unknown",
        detail=text(DETAIL) or "",
        size_bytes=int(omitted) if omitted and omitted.isdecimal() else len(value or b""),
    )


def record_size(key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]) -> int:
    """Bytes that a record takes on the wire, rounded up."""
    # Each header adds two lengths of up to five bytes beside its name and value.
    names_and_values = sum(len(name.encode()) + len(content) + 10 for name, content in headers)
    return RECORD_OVERHEAD + len(key or b"") + len(value or b"") + names_and_values


def capture_time(timestamp_ms: int) -> bytes | None:
    """A record's time as a header has it; None for 0 and below, which a producer without a clock sends, and for a time
    beyond the year 9999."""
    try:
        return format_time(timestamp_ms).encode() if timestamp_ms > 0 else None
    except OverflowError:
        return None
