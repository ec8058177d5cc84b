"""Found, missed and invented, on masks small enough to count by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from daemon.scoring import Counts, FrameScore, count_by_class, score_frame, total
from engines.results import Box

SHAPE = (8, 12)


def mask(*windows: tuple[int, int, int, int]) -> np.ndarray:
    """Ones in the windows x, y, width, height."""
    picture = np.zeros(SHAPE, np.uint8)
    for x, y, width, height in windows:
        picture[y : y + height, x : x + width] = 1
    return picture


def counts_of(found: dict[int, np.ndarray], truth: dict[int, np.ndarray]) -> Counts:
    return total(count_by_class([score_frame(found, truth)]))


def test_nothing_there_and_nothing_found():
    assert score_frame({}, {}) == FrameScore((), ())
    assert counts_of({1: mask()}, {2: mask()}) == Counts()


def test_a_region_covered_by_a_quarter_is_found_and_by_less_is_missed():
    truth = {1: mask((0, 0, 4, 4))}
    assert counts_of({1: mask((0, 0, 2, 2))}, truth) == Counts(found=1)
    three_of_sixteen = mask((0, 0, 3, 1))
    assert counts_of({1: three_of_sixteen}, truth) == Counts(missed=1)


def test_a_found_region_that_touches_the_truth_by_one_pixel_is_not_invented():
    truth = {1: mask((0, 0, 4, 4))}
    assert counts_of({1: mask((3, 3, 5, 4))}, truth) == Counts(missed=1)


def test_a_neighbour_that_shares_no_pixel_is_invented():
    assert counts_of({1: mask((4, 0, 2, 2))}, {1: mask((0, 0, 4, 4))}) == Counts(missed=1, invented=1)


def test_only_the_same_class_counts():
    window = (2, 2, 3, 3)
    assert counts_of({2: mask(window)}, {1: mask(window)}) == Counts(missed=1, invented=1)


def test_regions_are_eight_connected():
    diagonal = mask((0, 0, 2, 2), (2, 2, 2, 2))
    score = score_frame({}, {1: diagonal})
    assert [(region.area_px, region.box) for region in score.true_regions] == [(8, Box(0, 0, 4, 4))]


def test_several_small_finds_add_up_over_one_true_region():
    truth = {1: mask((0, 0, 8, 1))}
    assert counts_of({1: mask((0, 0, 1, 1), (4, 0, 1, 1))}, truth) == Counts(found=1)


def test_one_large_find_covers_several_true_regions():
    truth = {1: mask((0, 0, 2, 2), (6, 4, 2, 2))}
    assert counts_of({1: mask((0, 0, 12, 8))}, truth) == Counts(found=2)


def test_each_invented_region_has_its_box_and_area():
    score = score_frame({3: mask((1, 2, 3, 2), (8, 5, 4, 3))}, {})
    assert [(region.class_id, region.box, region.area_px) for region in score.invented] == [
        (3, Box(1, 2, 3, 2), 6),
        (3, Box(8, 5, 4, 3), 12),
    ]


def test_counts_are_kept_by_class():
    scores = [
        score_frame({1: mask((0, 0, 4, 4)), 4: mask((0, 0, 1, 1))}, {1: mask((0, 0, 4, 4))}),
        score_frame({}, {1: mask((0, 0, 1, 1))}),
    ]
    assert count_by_class(scores) == {1: Counts(found=1, missed=1), 4: Counts(invented=1)}


def test_shares_of_nothing_are_unknown():
    assert Counts().found_share is None
    assert Counts(missed=2).invented_per_100_found is None
    assert Counts(found=9, missed=1, invented=3).found_share == pytest.approx(0.9)
    assert Counts(found=50, invented=3).invented_per_100_found == pytest.approx(6)


def test_masks_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="differ in shape"):
        score_frame({1: mask()}, {1: np.zeros((3, 3), np.uint8)})


@given(arrays(np.uint8, SHAPE, elements=st.integers(0, 1)))
def test_the_truth_itself_finds_everything_and_invents_nothing(picture: np.ndarray):
    score = score_frame({1: picture}, {1: picture * 255})
    assert all(region.found and region.covered_px == region.area_px for region in score.true_regions)
    assert sum(region.area_px for region in score.true_regions) == picture.sum()
    assert score.invented == ()


@given(arrays(np.uint8, SHAPE, elements=st.integers(0, 1)), arrays(np.uint8, SHAPE, elements=st.integers(0, 1)))
def test_invented_regions_lie_outside_the_truth(found: np.ndarray, truth: np.ndarray):
    score = score_frame({1: found}, {1: truth})
    assert sum(region.area_px for region in score.invented) <= (found & ~truth & 1).sum()
    assert sum(region.covered_px for region in score.true_regions) == (found & truth).sum()
