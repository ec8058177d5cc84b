"""Defects on frames, pixel by pixel where it matters."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.pictures.overlay import Mark, draw
from daemon.pictures.palette import BLACK, WHITE, Colour, class_colour
from engines.results import Box


@pytest.fixture
def frame() -> np.ndarray:
    return np.full((256, 1600), 120, np.uint8)


def mark(class_id: int, box: Box, label: str = "", shape: tuple[int, int] = (256, 1600)) -> Mark:
    mask = np.zeros(shape, np.uint8)
    mask[box.y : box.y + box.height, box.x : box.x + box.width] = 1
    return Mark(class_id, label, box, mask)


def test_without_marks_the_picture_is_the_frame(frame: np.ndarray):
    picture = draw(frame, [])
    assert picture.dtype == np.uint8
    assert (picture == frame[:, :, None]).all()


def test_a_mask_is_tinted_and_its_contour_has_the_colour_of_its_class(frame: np.ndarray):
    picture = draw(frame, [mark(3, Box(400, 100, 50, 40))])
    colour = class_colour(3).bgr
    assert tuple(picture[100, 420]) == colour
    inside = picture[120, 420]
    assert tuple(inside) == tuple(int(120 * 0.7 + channel * 0.3 + 0.5) for channel in colour)


def test_pixels_far_from_every_mark_are_left_alone(frame: np.ndarray):
    picture = draw(frame, [mark(1, Box(400, 100, 50, 40), "1 pit 0.93")])
    assert (picture[:, 800:] == 120).all()


def test_the_frame_given_is_not_drawn_on(frame: np.ndarray):
    draw(frame, [mark(1, Box(400, 100, 50, 40), "1 pit 0.93")])
    assert (frame == 120).all()


def test_a_label_is_drawn_above_the_box_on_the_colour_of_its_class(frame: np.ndarray):
    picture = draw(frame, [mark(2, Box(400, 100, 50, 40), "2 mark 0.90")])
    label = picture[70:95, 396:500].reshape(-1, 3)
    assert (label == class_colour(2).bgr).all(axis=1).sum() > 500
    assert (label == BLACK.bgr).all(axis=1).sum() > 20


def test_truth_is_dashed_white_and_has_no_fill_beside_what_was_found(frame: np.ndarray):
    picture = draw(frame, [mark(1, Box(1000, 100, 50, 40))], [mark(4, Box(400, 100, 100, 60))])
    assert (picture[130, 450] == 120).all()
    edge = (picture[100, 400:500] == WHITE.bgr).all(axis=1)
    assert 0.3 < edge.mean() < 0.8


def test_truth_alone_is_tinted(frame: np.ndarray):
    picture = draw(frame, [], [mark(4, Box(400, 100, 100, 60))])
    colour = class_colour(4).bgr
    assert tuple(picture[130, 450]) == tuple(int(120 * 0.7 + channel * 0.3 + 0.5) for channel in colour)


def test_a_mark_without_a_mask_still_has_its_box(frame: np.ndarray):
    picture = draw(frame, [Mark(1, "", Box(400, 100, 50, 40), None)])
    assert tuple(picture[96, 420]) == class_colour(1).bgr
    assert (picture[120, 420] == 120).all()


@pytest.mark.parametrize(
    "box", [Box(0, 0, 1600, 256), Box(0, 0, 1, 1), Box(1599, 255, 1, 1), Box(0, 255, 1600, 1), Box(1599, 0, 1, 256)]
)
def test_marks_at_the_edges_are_drawn(frame: np.ndarray, box: Box):
    picture = draw(frame, [mark(1, box, "1 pit 0.93")], [mark(1, box, "true 1 pit")])
    assert picture.shape == (256, 1600, 3)
    assert (picture != 120).any()


def test_a_small_frame_is_enlarged_with_its_marks():
    shape = (20, 200)
    picture = draw(np.full(shape, 120, np.uint8), [mark(1, Box(50, 5, 10, 10), shape=shape)])
    assert picture.shape == (80, 800, 3)
    assert tuple(picture[20, 220]) == class_colour(1).bgr


def test_a_mask_may_come_as_bool_or_as_255(frame: np.ndarray):
    one = mark(3, Box(400, 100, 50, 40))
    assert one.mask is not None
    pictures = [draw(frame, [Mark(3, "", one.box, mask)]) for mask in (one.mask, one.mask * 255, one.mask.astype(bool))]
    assert all((picture == pictures[0]).all() for picture in pictures)


def test_neighbouring_classes_have_different_colours():
    assert len({class_colour(class_id) for class_id in range(1, 8)}) == 7
    assert class_colour(8) == class_colour(1)


def test_a_colour_in_each_notation():
    colour = Colour(213, 94, 0)
    assert (colour.bgr, colour.css) == ((0, 94, 213), "#d55e00")
    assert (WHITE.ink, BLACK.ink) == (BLACK, WHITE)
