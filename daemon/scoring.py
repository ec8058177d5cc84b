"""Found, missed and invented: what an inspection says of a frame against what is truly there.

A *true region* is an 8-connected region of a class's true mask. It is **found** where the found mask of the same class
covers at least a quarter of its pixels, else **missed**. An 8-connected region of a found mask is **invented** where it
shares no pixel with the true mask of its class; a found region that touches a true one without covering a quarter of it
is neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.results import Box
from engines.rle import Mask

FOUND_SHARE = 0.25
"""The share of a true region's pixels that must be covered for it to count as found."""


@dataclass(frozen=True, slots=True)
class TrueRegion:
    """A region of the truth; ``covered_px`` of its ``area_px`` pixels carry the same class in the found mask."""

    class_id: int
    box: Box
    area_px: int
    covered_px: int

    @property
    def found(self) -> bool:
        """Whether enough of it is covered."""
        return self.covered_px >= FOUND_SHARE * self.area_px


@dataclass(frozen=True, slots=True)
class InventedRegion:
    """A found region where the truth has nothing of its class."""

    class_id: int
    box: Box
    area_px: int


@dataclass(frozen=True, slots=True)
class FrameScore:
    """All regions of a frame that count."""

    true_regions: tuple[TrueRegion, ...]
    invented: tuple[InventedRegion, ...]


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of regions."""

    found: int = 0
    missed: int = 0
    invented: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.found + other.found, self.missed + other.missed, self.invented + other.invented)

    @property
    def true(self) -> int:
        """Regions that are truly there."""
        return self.found + self.missed

    @property
    def found_share(self) -> float | None:
        """Found of all true regions, in [0, 1]; None where there are none."""
        return self.found / self.true if self.true else None

    @property
    def invented_per_100_found(self) -> float | None:
        """Invented regions for each hundred found ones; None where none was found."""
        return 100 * self.invented / self.found if self.found else None


def score_frame(found: Mapping[int, Mask], truth: Mapping[int, Mask]) -> FrameScore:
    """The score of one frame from its masks by class, uint8 or bool ``[height, width]``, all of one shape.

    A class without a mask has no pixels. Raises ValueError where shapes differ.
    """
    shapes = {mask.shape for mask in (*found.values(), *truth.values())}
    if len(shapes) > 1:
        raise ValueError(f"masks of one frame differ in shape: {sorted(shapes)}")
    true_regions: list[TrueRegion] = []
    invented: list[InventedRegion] = []
    for class_id in sorted({*found, *truth}):
        shape = next(iter(shapes))
        found_mask = np.asarray(found.get(class_id, np.zeros(shape, np.uint8))) != 0
        true_mask = np.asarray(truth.get(class_id, np.zeros(shape, np.uint8))) != 0
        labels, boxes, areas = _label(true_mask)
        covered = np.bincount(labels[found_mask], minlength=len(areas))
        true_regions += [
            TrueRegion(class_id, boxes[label], areas[label], int(covered[label])) for label in range(1, len(areas))
        ]
        labels, boxes, areas = _label(found_mask)
        shared = np.bincount(labels[true_mask], minlength=len(areas))
        invented += [
            InventedRegion(class_id, boxes[label], areas[label]) for label in range(1, len(areas)) if not shared[label]
        ]
    return FrameScore(tuple(true_regions), tuple(invented))


def count_by_class(scores: Iterable[FrameScore]) -> dict[int, Counts]:
    """Sums over frames, by class in ascending order; classes that never occur are left out."""
    counts: dict[int, Counts] = {}
    for score in scores:
        for region in score.true_regions:
            one = Counts(found=1) if region.found else Counts(missed=1)
            counts[region.class_id] = counts.get(region.class_id, Counts()) + one
        for invented in score.invented:
            counts[invented.class_id] = counts.get(invented.class_id, Counts()) + Counts(invented=1)
    return dict(sorted(counts.items()))


def total(counts: Mapping[int, Counts]) -> Counts:
    """The sum over classes."""
    return sum(counts.values(), Counts())


def _label(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], list[Box], list[int]]:
    """Labels int32 ``[height, width]`` of 8-connected regions, with box and area by label; label 0 is background."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    rows = stats.tolist()
    return np.asarray(labels, dtype=np.int32), [Box(*row[:4]) for row in rows], [row[4] for row in rows]
