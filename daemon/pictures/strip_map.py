"""The defect map: where on the strip the defects lie, seen from above, the strip running from left to right.

A camera looks at one lane. In a frame the strip runs down the picture, so a frame's height lies along the map and its
width across the lane. Coils follow each other in the order in which they came.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Literal

from engines.results import Box, Verdict

Outcome = Literal["found", "missed", "invented", "unrated"]


@dataclass(frozen=True, slots=True)
class Region:
    """A region to show; ``box`` in frame pixels, ``title`` for whoever points at it."""

    class_id: int
    box: Box
    outcome: Outcome
    title: str


@dataclass(frozen=True, slots=True)
class StripFrame:
    """What the map needs of a frame. ``width`` and ``height`` in pixels; None where it could not be decoded."""

    camera: str
    coil: str | None
    position_mm: float | None
    verdict: Verdict | Literal["dead"]
    title: str
    width: int | None = None
    height: int | None = None
    regions: tuple[Region, ...] = ()


@dataclass(frozen=True, slots=True)
class Coil:
    """A stretch of the map. ``left`` and ``width`` are shares of the map's length; ``start_mm`` and ``end_mm`` are None
    where its frames carry no positions and are shown in their order instead."""

    name: str | None
    left: float
    width: float
    frames: int
    start_mm: float | None
    end_mm: float | None


@dataclass(frozen=True, slots=True)
class Spot:
    """A rectangle in a lane, all four numbers shares in [0, 1]: along the map, and across the lane."""

    left: float
    top: float
    width: float
    height: float
    title: str


@dataclass(frozen=True, slots=True)
class RegionSpot:
    """A region's rectangle."""

    class_id: int
    outcome: Outcome
    spot: Spot


@dataclass(frozen=True, slots=True)
class Lane:
    """What one camera saw: regions, and the frames that could not be inspected."""

    camera: str
    regions: tuple[RegionSpot, ...]
    dead: tuple[Spot, ...]


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark of the scale: a share of the map's length, and what stands there in millimetres."""

    left: float
    position_mm: float
    starts_coil: bool


@dataclass(frozen=True, slots=True)
class StripMap:
    """The whole map."""

    coils: tuple[Coil, ...]
    lanes: tuple[Lane, ...]
    ticks: tuple[Tick, ...]

    @property
    def in_metres(self) -> bool:
        """Whether the scale reads better in metres."""
        return any(tick.position_mm >= 10_000 for tick in self.ticks)


def lay_out(frames: Sequence[StripFrame]) -> StripMap:
    """The map of frames given in the order in which they came."""
    groups: dict[str | None, list[StripFrame]] = {}
    for frame in frames:
        groups.setdefault(frame.coil, []).append(frame)
    stretches = [_Stretch.of(group) for group in groups.values()]
    by_length = all(stretch.start_mm is not None for stretch in stretches)
    weights = [stretch.length if by_length else len(stretch.starts) for stretch in stretches]
    coils, spots = [], []
    left = 0.0
    for name, stretch, weight in zip(groups, stretches, weights, strict=True):
        width = weight / sum(weights)
        end_mm = None if stretch.start_mm is None else stretch.start_mm + stretch.length
        coils.append(Coil(name, left, width, len(groups[name]), stretch.start_mm, end_mm))
        for frame, start in zip(groups[name], stretch.starts, strict=True):
            spots.append((frame, left + width * start / stretch.length, width * stretch.pitch / stretch.length))
        left += width
    lanes = (_lane(camera, spots) for camera in dict.fromkeys(frame.camera for frame in frames))
    return StripMap(tuple(coils), tuple(lanes), tuple(_ticks(coils)))


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Frames of a coil along it: where each starts, how far one reaches and how long all are, in mm or in frames."""

    start_mm: float | None
    starts: list[float]
    pitch: float
    length: float

    @classmethod
    def of(cls, frames: Sequence[StripFrame]) -> _Stretch:
        positions = [frame.position_mm for frame in frames if frame.position_mm is not None]
        if len(positions) < len(frames):
            counts: dict[str, int] = {}
            order = []
            for frame in frames:
                order.append(float(counts.get(frame.camera, 0)))
                counts[frame.camera] = counts.get(frame.camera, 0) + 1
            return cls(None, order, 1.0, float(max(counts.values())))
        # Cameras stand side by side and see the same positions: only different ones tell how far a frame reaches.
        steps = [after - before for before, after in pairwise(sorted(set(positions)))]
        pitch = median(steps) if steps else 1.0
        start = min(positions)
        return cls(start, [position - start for position in positions], pitch, max(positions) - start + pitch)


def _ticks(coils: Sequence[Coil]) -> Iterator[Tick]:
    """Round positions, about ten on the whole map."""
    known = [(coil, coil.start_mm, coil.end_mm) for coil in coils]
    length = sum(end - start for _, start, end in known if start is not None and end is not None)
    if not length:
        return
    power = 10 ** math.floor(math.log10(length / 10))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= length / 10)
    for coil, start, end in known:
        if start is None or end is None:
            continue
        for number in range(math.ceil(start / step), math.ceil(end / step)):
            position = number * step
            # Where another coil follows, its own first mark needs the room.
            if coil is coils[-1] or end - position >= step / 2:
                yield Tick(coil.left + coil.width * (position - start) / (end - start), position, position == start)


def _lane(camera: str, spots: Sequence[tuple[StripFrame, float, float]]) -> Lane:
    regions, dead = [], []
    for frame, left, length in spots:
        if frame.camera != camera:
            continue
        if frame.verdict == "dead":
            dead.append(Spot(left, 0.0, length, 1.0, frame.title))
        if frame.width is None or frame.height is None:
            continue
        for region in frame.regions:
            box = region.box
            spot = Spot(
                left + length * box.y / frame.height,
                box.x / frame.width,
                length * box.height / frame.height,
                box.width / frame.width,
                region.title,
            )
            regions.append(RegionSpot(region.class_id, region.outcome, spot))
    # Large regions first, so that small ones lie on top and can be pointed at.
    regions.sort(key=lambda region: -region.spot.width * region.spot.height)
    return Lane(camera, tuple(regions), tuple(dead))
