from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from training.regions import Tally, large_regions, tally


def mask(*boxes: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Boxes are left, top, width, height."""
    drawn = np.zeros((64, 96), np.uint8)
    for left, top, width, height in boxes:
        drawn[top : top + height, left : left + width] = 1
    return drawn


def test_a_quarter_of_a_region_finds_it_and_less_does_not() -> None:
    true = mask((10, 10, 8, 8))
    assert tally(mask((10, 10, 4, 4)), true) == Tally(true=1, found=1, drawn=1, invented=0)
    assert tally(mask((10, 10, 5, 3)), true) == Tally(true=1, found=0, drawn=1, invented=0)


def test_a_region_that_touches_nothing_true_is_invented() -> None:
    assert tally(mask((60, 40, 5, 5)), mask((10, 10, 8, 8))) == Tally(true=1, found=0, drawn=1, invented=1)
    assert tally(mask((60, 40, 5, 5)), mask()) == Tally(true=0, found=0, drawn=1, invented=1)


def test_regions_that_meet_at_a_corner_are_one() -> None:
    assert tally(mask(), mask((0, 0, 4, 4), (4, 4, 4, 4))) == Tally(true=1, found=0, drawn=0, invented=0)


def test_f2_weighs_missed_against_invented_and_a_miss_twice() -> None:
    assert Tally(true=10, found=10, drawn=10, invented=0).f2 == 1
    assert Tally(true=10, found=5, drawn=10, invented=5).f2 == pytest.approx(0.5)
    assert Tally(true=10, found=5, drawn=5, invented=0).f2 < Tally(true=10, found=10, drawn=20, invented=10).f2
    assert Tally(true=10, found=0, drawn=3, invented=3).f2 == 0
    assert Tally(true=2, found=1, drawn=1, invented=0) + Tally(1, 0, 2, 2) == Tally(3, 1, 3, 2)


def test_small_found_regions_do_not_count_and_cover_nothing() -> None:
    true, found = mask((10, 10, 8, 8)), mask((10, 10, 8, 4), (60, 40, 2, 2))
    assert tally(found, true, 5) == Tally(true=1, found=1, drawn=1, invented=0)
    assert tally(found, true, 33) == Tally(true=1, found=0, drawn=0, invented=0)


def test_large_regions_stay_whole() -> None:
    kept = large_regions(mask((10, 10, 8, 4), (60, 40, 2, 2)), 5)
    np.testing.assert_array_equal(kept, mask((10, 10, 8, 4)))
