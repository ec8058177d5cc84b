from __future__ import annotations

import cv2
import numpy as np
import pytest

from training.strips.labels import FAINT, SMALLEST_REGION_PX, VISIBLE, faded, outline, render, visible
from training.strips.stamp import Stamp, Window


@pytest.fixture
def background() -> np.ndarray:
    noise = np.random.default_rng(0).normal(100, 6, (256, 1600))
    return noise.astype(np.float32)


def square(depth: float) -> Stamp:
    window = Window(100, 100, 160, 160)
    core = np.zeros(window.shape, np.uint8)
    core[20:40, 20:40] = 1
    return Stamp(window, -depth * core.astype(np.float32), core)


ALLOWED = np.ones((256, 1600), np.uint8)


def test_a_strong_stamp_is_visible_and_leaves_the_background_alone(background: np.ndarray) -> None:
    before = background.copy()
    placed = visible(square(0.5), background, ALLOWED, weakness=0.0)
    assert placed is not None
    assert placed.contrast >= VISIBLE
    assert np.array_equal(background, before)
    assert placed.after[30, 30] < 0.8 * background[130, 130]


def test_weakness_tones_a_stamp_down_but_not_below_the_limit(background: np.ndarray) -> None:
    strong = visible(square(0.9), background, ALLOWED, weakness=0.0)
    weak = visible(square(0.9), background, ALLOWED, weakness=1.0)
    assert strong is not None
    assert weak is not None
    assert VISIBLE <= weak.contrast < 0.7 * strong.contrast


def test_a_weak_stamp_is_amplified(background: np.ndarray) -> None:
    assert render(square(0.05), background, ALLOWED).contrast < VISIBLE
    placed = visible(square(0.05), background, ALLOWED, weakness=0.0)
    assert placed is not None
    assert placed.contrast >= VISIBLE


def test_a_hidden_stamp_is_refused(background: np.ndarray) -> None:
    assert visible(square(0.005), background, ALLOWED, weakness=0.0) is None
    assert visible(square(0.5), background, np.zeros_like(ALLOWED), weakness=0.0) is None


def test_a_faded_stamp_is_below_sight(background: np.ndarray) -> None:
    placed = faded(square(0.5), background, ALLOWED, contrast=0.3)
    assert placed is not None
    assert 0.15 < placed.contrast < FAINT


def test_near_parts_become_one_region_with_a_margin() -> None:
    core = np.zeros((256, 1600), np.uint8)
    core[100:112, 200:206] = 1
    core[120:132, 212:218] = 1
    mask = outline(core, 1)
    assert cv2.connectedComponents(mask)[0] == 2
    assert (mask[core > 0] == 1).all()
    assert mask.sum() > 2 * core.sum()


def test_far_parts_stay_apart() -> None:
    core = np.zeros((256, 1600), np.uint8)
    core[50:80, 200:215] = 1
    core[50:80, 400:415] = 1
    assert cv2.connectedComponents(outline(core, 1))[0] == 3


def test_holes_are_filled() -> None:
    core = np.zeros((256, 1600), np.uint8)
    cv2.circle(core, (600, 128), 50, 1, 3)
    assert outline(core, 4)[128, 600] == 1


@pytest.mark.parametrize("class_id", [3, 4])
def test_crumbs_are_dropped(class_id: int) -> None:
    core = np.zeros((256, 1600), np.uint8)
    core[100:104, 200:204] = 1
    mask = outline(core, class_id)
    assert mask.sum() == 0
    assert SMALLEST_REGION_PX[class_id] > 14 * 14


def test_marks_that_leave_the_frame_are_joined_up_to_the_border() -> None:
    core = np.zeros((256, 1600), np.uint8)
    core[:, 800:804] = 1
    core[:, 822:826] = 1
    mask = outline(core, 3)
    assert mask[:, 800:826].all()
    assert not mask[:, :760].any()


def test_nothing_drawn_gives_nothing() -> None:
    assert not outline(np.zeros((256, 1600), np.uint8), 2).any()
