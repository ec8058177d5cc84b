"""Frames to the networks' size and masks back."""

from __future__ import annotations

import numpy as np
import pytest

from engines.definition import InputSize
from engines.sizes import from_input, to_input

SIZE = InputSize(height=64, width=160)


def test_a_frame_of_the_right_size_is_not_touched() -> None:
    frame = np.zeros((64, 160), np.uint8)
    assert to_input(frame, SIZE) is frame
    mask = np.zeros((160, 64), np.uint8)
    assert from_input(mask, 64, 160) is mask


def test_shrinking_averages_so_that_small_defects_stay_visible() -> None:
    frame = np.full((256, 640), 128, np.uint8)
    frame[8:12, 8:12] = 8
    assert to_input(frame, SIZE)[2, 2] == 8
    speck = np.full((256, 640), 128, np.uint8)
    speck[9, 9] = 0
    assert to_input(speck, SIZE)[2, 2] == 120


@pytest.mark.parametrize(("height", "width"), [(8, 1600), (63, 1600), (640, 16), (640, 159)])
def test_no_pixel_is_dropped_where_one_side_shrinks_and_the_other_grows(height: int, width: int) -> None:
    rows, columns = (1, 10) if width > SIZE.width else (10, 1)
    for place in range(10):
        frame = np.full((height, width), 128, np.uint8)
        frame[place::rows, :] = 0 if rows > 1 else 128
        if columns > 1:
            frame[:, place::columns] = 0
        # One pixel in ten is black: averaged, every pixel is a tenth darker.
        np.testing.assert_allclose(to_input(frame, SIZE), 115, atol=1)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (256, 1600), (2000, 40), (63, 161)])
def test_any_size_goes_there_and_back(height: int, width: int) -> None:
    frame = np.random.default_rng(1).integers(0, 256, (height, width), dtype=np.uint8)
    assert to_input(frame, SIZE).shape == (64, 160)
    mask = np.ones((160, 64), np.uint8)
    back = from_input(mask, height, width)
    assert back.shape == (width, height)
    assert back.flags.c_contiguous
    assert back.all()


def test_masks_stay_binary_and_in_place() -> None:
    mask = np.zeros((160, 64), np.uint8)
    mask[80:, :] = 1
    back = from_input(mask, 128, 320)
    assert set(np.unique(back)) == {0, 1}
    assert not back[:160].any()
    assert back[160:].all()
