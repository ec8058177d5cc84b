"""One hostile frame: a record's value and headers, and the good ones from which the bad are made."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Final

import cv2
import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from daemon.decoding import frame_decoder
from daemon.frames import Frame, Headers, frame_of
from engines.images import RAW_GREY, ImageLimits

HEIGHT, WIDTH = 64, 160
LIMITS: Final = ImageLimits()
DECODE: Final = frame_decoder(LIMITS, require_crc32c=False)


@dataclass(frozen=True)
class Message:
    """The value and the headers of one record."""

    value: bytes
    headers: Headers = ()

    def frame(self) -> Frame:
        """The frame as the source makes it of the record."""
        record = SimpleNamespace(
            topic="frames", partition=0, offset=0, timestamp=0, key=b"cam-1", value=self.value, headers=[*self.headers]
        )
        return frame_of(record)

    @property
    def size(self) -> int:
        """Bytes of the value and of the headers."""
        return len(self.value) + sum(len(name) + len(text or b"") for name, text in self.headers)

    @property
    def checksum_fails(self) -> bool:
        """Whether the record carries a checksum that is not its value's."""
        told = self.frame().meta.header("crc32c")
        return told is not None and told.lower() != checksum(self.value)


@cache
def picture() -> NDArray[np.uint8]:
    """Rolled steel, roughly: a slow shade with noise."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    noise = np.random.default_rng(7).normal(0, 6, (HEIGHT, WIDTH))
    steel = 128 + 40 * np.sin(columns / 25) + 20 * np.cos(rows / 12) + noise
    return np.asarray(np.clip(steel, 0, 255), np.uint8)


def encoded(suffix: str, *options: int, image: NDArray[np.uint16] | None = None) -> bytes:
    return bytes(cv2.imencode(suffix, picture() if image is None else image, options)[1].tobytes())


@cache
def good_frames() -> Mapping[str, Message]:
    """What a camera may send: one message of each format."""
    size = (("content-type", RAW_GREY.encode()), ("width", b"%d" % WIDTH), ("height", b"%d" % HEIGHT))
    return {
        "jpeg": Message(encoded(".jpg")),
        "png": Message(encoded(".png")),
        "bmp": Message(encoded(".bmp")),
        "tiff": Message(encoded(".tiff")),
        "raw": Message(picture().tobytes(), size),
    }


def checksum(value: bytes) -> bytes:
    return b"%08x" % crc32c(value)


def damaged(chance: random.Random, good: Message, value: bytes) -> Message:
    """A damaged value; every other one carries the checksum that the producer took before the damage."""
    told = (("crc32c", checksum(good.value)),) if chance.random() < 0.5 else ()
    return Message(value, good.headers + told)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(*chunks: bytes, image: bytes | None = None) -> bytes:
    """A PNG with chunks behind its header (33 bytes: signature and IHDR)."""
    plain = good_frames()["png"].value if image is None else image
    return plain[:33] + b"".join(chunks) + plain[33:]


def tiff_file(entries: list[tuple[int, int, int]], body: bytes = b"") -> bytes:
    """A little-endian TIFF of one directory, entries as (tag, type, value), with ``body`` from byte 8 on."""
    fields = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + struct.pack("<H", len(entries)) + fields + bytes(4)


def jpeg_with(*segments: tuple[int, bytes]) -> bytes:
    """A JPEG with marker segments behind its start."""
    value = good_frames()["jpeg"].value
    added = (bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data for marker, data in segments)
    return value[:2] + b"".join(added) + value[2:]
