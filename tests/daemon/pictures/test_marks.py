"""Events and truth as marks and masks."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.pictures.marks import event_marks, event_masks, truth_marks
from engines.errors import UsageError
from engines.results import Box
from tests.support.defect_events import defect, event


def mask(x: int, y: int, width: int, height: int) -> np.ndarray:
    picture = np.zeros((8, 12), np.uint8)
    picture[y : y + height, x : x + width] = 1
    return picture


def test_a_defect_is_a_mark_with_its_class_name_and_score():
    (mark,) = event_marks(event([defect(3, mask(2, 3, 4, 2))]))
    assert (mark.class_id, mark.label, mark.box) == (3, "3 pits 0.93", Box(2, 3, 4, 2))
    assert np.array_equal(mark.mask, mask(2, 3, 4, 2))


def test_an_omitted_mask_leaves_its_box_and_counts_as_nothing():
    omitted = event([defect(3, None)])
    assert [(mark.box, mark.mask) for mark in event_marks(omitted)] == [(Box(1, 2, 3, 4), None)]
    assert event_masks(omitted) == {}


def test_regions_of_a_class_make_one_mask():
    masks = event_masks(event([defect(1, mask(0, 0, 2, 2)), defect(1, mask(5, 5, 2, 2)), defect(4, mask(8, 0, 1, 8))]))
    assert list(masks) == [1, 4]
    assert np.array_equal(masks[1], mask(0, 0, 2, 2) | mask(5, 5, 2, 2))


def test_run_lengths_of_another_size_are_refused():
    with pytest.raises(UsageError):
        event_marks(event([defect(3, mask(0, 0, 12, 8))], height=4))


def test_truth_is_marked_by_class_with_a_tight_box():
    marks = truth_marks({4: mask(8, 1, 2, 3), 1: mask(0, 0, 1, 1), 2: mask(0, 0, 0, 0)}, {4: "patches"})
    assert [(mark.class_id, mark.label, mark.box) for mark in marks] == [
        (1, "true 1", Box(0, 0, 1, 1)),
        (4, "true 4 patches", Box(8, 1, 2, 3)),
    ]
