"""Placement of labels."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from daemon.pictures.labels import place_labels
from engines.results import Box

WIDTH, HEIGHT = 400, 100


def overlap(a: tuple[int, int], a_size: tuple[int, int], b: tuple[int, int], b_size: tuple[int, int]) -> int:
    across = min(a[0] + a_size[0], b[0] + b_size[0]) - max(a[0], b[0])
    down = min(a[1] + a_size[1], b[1] + b_size[1]) - max(a[1], b[1])
    return max(0, across) * max(0, down)


def test_a_label_goes_above_its_box():
    assert place_labels([(60, 10)], [Box(100, 50, 30, 30)], WIDTH, HEIGHT) == [(100, 40)]


def test_without_room_above_it_goes_below():
    assert place_labels([(60, 10)], [Box(100, 0, 30, 30)], WIDTH, HEIGHT) == [(100, 30)]


def test_beside_a_box_of_the_full_height():
    assert place_labels([(60, 10)], [Box(100, 0, 30, HEIGHT)], WIDTH, HEIGHT) == [(130, 0)]


def test_inside_a_box_that_fills_the_picture():
    assert place_labels([(60, 10)], [Box(0, 0, WIDTH, HEIGHT)], WIDTH, HEIGHT) == [(0, 0)]


def test_at_the_right_edge_it_is_pushed_back_into_the_picture():
    assert place_labels([(60, 10)], [Box(390, 50, 10, 10)], WIDTH, HEIGHT) == [(340, 40)]


def test_a_label_keeps_off_another_ones_box():
    upper, lower = Box(100, 30, 30, 20), Box(100, 52, 30, 20)
    place = place_labels([(60, 10)] * 2, [upper, lower], WIDTH, HEIGHT)[1]
    assert overlap(place, (60, 10), (upper.x, upper.y), (upper.width, upper.height)) == 0


def test_many_labels_of_one_box_do_not_overlap():
    sizes = [(60, 10)] * 12
    places = place_labels(sizes, [Box(100, 50, 5, 5)] * 12, WIDTH, HEIGHT)
    assert all(overlap(places[i], sizes[i], places[j], sizes[j]) == 0 for i in range(len(places)) for j in range(i))


boxes = st.builds(
    lambda x, y, width, height: Box(x, y, min(width, WIDTH - x), min(height, HEIGHT - y)),
    st.integers(0, WIDTH - 1),
    st.integers(0, HEIGHT - 1),
    st.integers(1, WIDTH),
    st.integers(1, HEIGHT),
)


@given(st.lists(st.tuples(boxes, st.integers(1, 200), st.integers(1, 40)), max_size=30))
def test_labels_stay_inside_the_picture_however_many_there_are(labels: list[tuple[Box, int, int]]):
    sizes = [(width, height) for _, width, height in labels]
    places = place_labels(sizes, [box for box, _, _ in labels], WIDTH, HEIGHT)
    for (x, y), (width, height) in zip(places, sizes, strict=True):
        assert 0 <= x <= WIDTH - width
        assert 0 <= y <= HEIGHT - height


def test_a_label_larger_than_the_picture_starts_at_its_corner():
    assert place_labels([(500, 10)], [Box(5, 50, 5, 5)], WIDTH, HEIGHT)[0][0] == 0
