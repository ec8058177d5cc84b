"""From a camera record to pixels: its age first, then the checksum, then the image."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import crc32c

from daemon.frames import Frame
from engines import images
from engines.errors import FrameRejectedError

CHECKSUM = re.compile(rb"[0-9A-Fa-f]{8}")


def frame_decoder(
    limits: images.ImageLimits,
    *,
    require_crc32c: bool,
    max_age_s: float = 0.0,
    decode_jpeg: images.DecodeJpeg | None = None,
) -> Callable[[Frame], images.Frame]:
    """A function from a frame to its pixels, uint8 ``[height, width]``; raises FrameRejectedError.

    A decoder notices hardly any flipped bit of a JPEG, so the checksum is verified wherever there is one, and
    ``require_crc32c`` refuses a frame that has none. A frame whose record was appended more than ``max_age_s`` seconds
    ago is refused unseen; 0 takes frames of any age. ``decode_jpeg`` as for :func:`engines.images.decode`.
    """

    def decode(frame: Frame) -> images.Frame:
        if frame.damage is not None:
            raise FrameRejectedError("unreadable", frame.damage)
        if max_age_s:
            _refuse_stale(frame, max_age_s)
        value = frame.value
        if not value:
            raise FrameRejectedError("empty", "the record has no value")
        if len(value) > limits.max_bytes:
            raise FrameRejectedError("too-large", f"{len(value)} bytes, but at most {limits.max_bytes} are allowed")
        _verify_checksum(frame, value, required=require_crc32c)
        content_type = _text(frame, "content-type")
        raw = content_type is not None and content_type.partition(";")[0].strip().lower() == images.RAW_GREY
        return images.decode(
            value,
            limits=limits,
            content_type=content_type,
            width=_number(frame, "width") if raw else None,
            height=_number(frame, "height") if raw else None,
            decode_jpeg=decode_jpeg,
        )

    return decode


def frame_measure(limits: images.ImageLimits) -> Callable[[Frame], int]:
    """A function from a frame to the bytes that its pixels take once they are decoded: one each, and none where the
    frame will be refused by its size or its header, or was damaged."""

    def measure(frame: Frame) -> int:
        if frame.damage is not None:
            return 0
        try:
            header = images.read_header(frame.value or b"")
        except FrameRejectedError:
            # Raw grey has no header, and its pixels are the value itself.
            return 0
        pixels = header.width * header.height
        return pixels if pixels <= limits.max_pixels else 0

    return measure


def _refuse_stale(frame: Frame, max_age_s: float) -> None:
    appended_ms = frame.meta.timestamp_ms
    # A record without a time has -1, and one from a clock that is ahead comes out younger than nothing: both are taken.
    age_s = time.time() - appended_ms / 1000
    if appended_ms >= 0 and age_s > max_age_s:
        raise FrameRejectedError(
            "stale", f"appended {age_s:.1f} s ago, and input.max_age_s allows {max_age_s:g} s: not looked at"
        )


def _verify_checksum(frame: Frame, value: bytes, *, required: bool) -> None:
    told = frame.meta.header("crc32c")
    if told is None:
        if required:
            raise FrameRejectedError("checksum", "the header crc32c is missing, and input.require_crc32c demands it")
        return
    if not CHECKSUM.fullmatch(told):
        raise FrameRejectedError("checksum", "the header crc32c is not eight hexadecimal digits")
    found = crc32c.crc32c(value)
    if int(told, 16) != found:
        raise FrameRejectedError(
            "checksum", f"the header crc32c says {told.decode().lower()}, the value has {found:08x}"
        )


def _text(frame: Frame, name: str) -> str | None:
    value = frame.meta.header(name)
    return None if value is None else value.decode(errors="replace")


def _number(frame: Frame, name: str) -> int | None:
    value = frame.meta.header(name)
    if value is None:
        return None
    # int() would also take signs, underscores and other scripts' digits, or a number of a million digits.
    if not re.fullmatch(rb"\d{1,9}", value):
        raise FrameRejectedError("bad-header", f"the header {name} is not a number of pixels")
    return int(value)
