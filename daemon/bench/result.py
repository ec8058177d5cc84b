"""The figures of a bench run, as they are printed."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Measured:
    """Frames that went through in ``seconds`` of wall time, for ``cpu_seconds`` of one process's processor time."""

    frames: int
    seconds: float
    cpu_seconds: float

    @classmethod
    def total(cls, parts: Sequence[Measured]) -> Self:
        """All parts as if they had been one."""
        return cls(sum(p.frames for p in parts), sum(p.seconds for p in parts), sum(p.cpu_seconds for p in parts))

    @property
    def fps(self) -> float:
        """Frames per second."""
        return self.frames / self.seconds

    @property
    def cpu_ms_per_frame(self) -> float:
        """Processor time per frame in milliseconds, over all threads."""
        return 1000 * self.cpu_seconds / self.frames


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of a latency in milliseconds."""

    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """By nearest rank: each is a latency that was measured. There is at least one."""
        ordered = sorted(values)
        ranks = (max(1, math.ceil(share * len(ordered))) for share in (0.50, 0.95, 0.99))
        return cls(*(ordered[rank - 1] for rank in ranks))


@dataclass(frozen=True, slots=True)
class CpuPerFrame:
    """Processor time per frame in milliseconds of the Millwatch process."""

    cascade: float | None
    end_to_end: float | None


@dataclass(frozen=True, slots=True)
class BenchResult:
    """What ``millwatch bench`` prints; a part that was left out is null.

    ``frames`` is how many each speed was measured on, ``rss_mb`` the daemon's largest resident memory in 10^6 bytes.
    """

    frames: int
    defect_rate: float
    cores: int
    cpu: str
    backend: str
    precision: str
    cascade_fps: float | None
    end_to_end_fps: float | None
    ratio: float | None
    naive_fps: float | None
    latency_ms: Percentiles | None
    cpu_ms_per_frame: CpuPerFrame
    rss_mb: float | None

    def to_json(self) -> str:
        """One JSON object on one line, numbers to three digits after the point."""
        return json.dumps(rounded(asdict(self)))


def rounded(value: object) -> object:
    """The same with every number to three digits after the point."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return round(value, 3) if isinstance(value, float) else value
