"""What was sent: the kinds of frames, and the ledger of which frame lies where on the camera topic."""

from __future__ import annotations

import random
import threading
from collections import Counter
from dataclasses import dataclass, field
from functools import cache

import cv2
import numpy as np

from tests.support.tiny_cascade import frame_with

Place = tuple[int, int]
"""Partition and offset on the camera topic."""

PATCH = (10, 20, 40, 12)
"""x, y, width and height, in pixels, of the one defect of a defective frame."""

DEFECT = (3, list(PATCH), PATCH[2] * PATCH[3])
"""Class, box and area, in pixels, as its event tells them."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of frame and the one verdict that is right for it: ``clean``, ``defective`` or a dead letter's reason."""

    name: str
    verdict: str
    weight: int


KINDS = {
    kind.name: kind
    for kind in (
        Kind("defective", "defective", 12),
        Kind("clean", "clean", 4),
        Kind("no-picture", "unknown-format", 2),
        Kind("half-picture", "truncated", 1),
        Kind("empty", "empty", 1),
        # Only in streams whose engines fail: see tests.faults.failing_engines.
        Kind("poisoned", "inference", 0),
    )
}
VERDICTS_SEEN = 0.8
"""The share of frames that end as a record: all but the clean ones."""

POISON_SIDE = 7
"""Pixels; a poisoned frame is clean but for a square of :data:`POISON_GREY` in its corner."""

POISON_GREY = 101
"""Grey values; near enough to clean steel that the cascade would find nothing."""


@cache
def value_of(kind: str) -> bytes:
    """The bytes of a frame of this kind; all of one kind are alike, what tells them apart is where they lie."""
    if kind == "defective":
        return _png(frame_with({DEFECT[0]: [PATCH]}))
    if kind == "clean":
        return _png(frame_with())
    if kind == "poisoned":
        frame = frame_with()
        frame[:POISON_SIDE, :POISON_SIDE] = POISON_GREY
        return _png(frame)
    if kind == "half-picture":
        jpeg: bytes = cv2.imencode(".jpg", frame_with({DEFECT[0]: [PATCH]}))[1].tobytes()
        return jpeg[: len(jpeg) // 2]
    return {"no-picture": b"this is a sentence, not a picture", "empty": b""}[kind]


def kind_of(seed: int, number: int, *, poisoned: bool = False) -> str:
    """The kind of the frame with this number: a pure function, so that a ledger can be checked against the topic."""
    chance = random.Random(f"{seed} {number}")
    if poisoned and chance.random() < 0.02:
        return "poisoned"
    return chance.choices(list(KINDS), [kind.weight for kind in KINDS.values()])[0]


@dataclass
class Ledger:
    """Which frames were handed to the producer, and where the broker said they lie. Safe to use from any thread.

    ``doubtful`` frames were not acknowledged in time: whether they lie on the topic it tells itself, in the end.
    """

    kinds: dict[int, str] = field(default_factory=dict)
    acknowledged: dict[Place, int] = field(default_factory=dict)
    doubtful: set[int] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def sent(self, number: int, kind: str) -> None:
        with self._lock:
            self.kinds[number] = kind

    def acknowledge(self, number: int, place: Place) -> None:
        with self._lock:
            self.acknowledged[place] = number

    def doubt(self, number: int) -> None:
        with self._lock:
            self.doubtful.add(number)

    @property
    def by_kind(self) -> Counter[str]:
        with self._lock:
            return Counter(self.kinds.values())


def _png(image: np.ndarray) -> bytes:
    encoded: bytes = cv2.imencode(".png", image)[1].tobytes()
    return encoded
