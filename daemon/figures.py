"""What a line measures of itself: how long it worked, and how old the frames are that it has."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """From the first frame taken to the last commit: wall time, and the processor time of the whole process."""

    seconds: float
    cpu_seconds: float


class Stopwatch:
    """Measures a :class:`Span`, which is None until something was committed. Owned by the line thread; any thread may
    read ``span``."""

    def __init__(self) -> None:
        self.span: Span | None = None
        self._began: tuple[float, float] | None = None

    def begin(self) -> None:
        """A frame is taken; only the first one counts."""
        if self._began is None:
            self._began = time.perf_counter(), time.process_time()

    def lap(self) -> None:
        """The last thing that counts has happened, so far."""
        if self._began is not None:
            self.span = Span(time.perf_counter() - self._began[0], time.process_time() - self._began[1])


@dataclass(frozen=True, slots=True)
class FrameAges:
    """Seconds since frames were appended to the topic: ``in_flight`` of the oldest that was taken and is not committed;
    ``unread`` of the one before the oldest that was not taken yet. None where there is none, or it has no time."""

    in_flight: float | None = None
    unread: float | None = None


def age_s(*appended_ms: int | None) -> float | None:
    """Seconds since the earliest of these times (ms since 1970); None where there is none."""
    known = [ms for ms in appended_ms if ms is not None]
    return max(0.0, time.time() - min(known) / 1000) if known else None
