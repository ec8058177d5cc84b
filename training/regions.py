"""Counting regions: how many of the true ones were found, and how many found ones are nowhere in the truth."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

FOUND_SHARE = 0.25
"""Share of a true region's pixels that the found mask must cover for the region to count as found."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Numbers of 8-connected regions: true ones, those found, all in the found mask, those that touch no true one."""

    true: int = 0
    found: int = 0
    drawn: int = 0
    invented: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.true + other.true,
            self.found + other.found,
            self.drawn + other.drawn,
            self.invented + other.invented,
        )

    @property
    def f2(self) -> float:
        """F-measure in [0, 1] with beta = 2 (van Rijsbergen, "Information Retrieval", 1979): the weighted harmonic mean
        of the found share, which counts twice as much, and of the share of drawn regions that touch a true one."""
        if not self.found:
            return 0.0
        recall, precision = self.found / self.true, 1 - self.invented / self.drawn
        return 5 * recall * precision / (recall + 4 * precision) if precision else 0.0


def tally(found: NDArray[np.uint8], true: NDArray[np.uint8], least_area: int = 0) -> Tally:
    """Compare two masks of one class, uint8 0/1 ``[height, width]``, without found regions under ``least_area`` px."""
    true_numbers, sizes = _regions(true)
    drawn_numbers, drawn_sizes = _regions(found)
    kept = drawn_sizes >= least_area
    kept[0] = False
    covered = np.bincount(true_numbers[kept[drawn_numbers]], minlength=len(sizes))[1:]
    shared = np.bincount(drawn_numbers[true > 0], minlength=len(drawn_sizes))
    return Tally(
        true=len(sizes) - 1,
        found=int((covered >= FOUND_SHARE * sizes[1:]).sum()),
        drawn=int(kept.sum()),
        invented=int((kept & (shared == 0)).sum()),
    )


def large_regions(mask: NDArray[np.uint8], least_area: int) -> NDArray[np.uint8]:
    """The mask, uint8 0/1 ``[height, width]``, without its 8-connected regions under ``least_area`` px."""
    numbers, sizes = _regions(np.ascontiguousarray(mask))
    kept = sizes >= least_area
    kept[0] = False
    return kept[numbers].astype(np.uint8)


def _regions(mask: NDArray[np.uint8]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Numbers int32 ``[height, width]`` of the 8-connected regions, from 1, and the areas by number (0: background)."""
    _, numbers, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8, ltype=cv2.CV_32S)
    return np.asarray(numbers, np.int32), np.asarray(stats[:, cv2.CC_STAT_AREA], np.int32)
