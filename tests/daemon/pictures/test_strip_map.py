"""Geometry of the defect map."""

from __future__ import annotations

import pytest

from daemon.pictures.strip_map import Region, StripFrame, lay_out
from engines.results import Box

HEIGHT, WIDTH = 256, 1600


def frame(
    position_mm: float | None, *boxes: Box, camera: str = "cam-1", coil: str | None = "C1", verdict: str = "clean"
) -> StripFrame:
    regions = tuple(Region(3, box, "unrated", "a region") for box in boxes)
    return StripFrame(camera, coil, position_mm, verdict, "a frame", WIDTH, HEIGHT, regions)  # type: ignore[arg-type]


def test_no_frames_make_an_empty_map():
    empty = lay_out([])
    assert (empty.coils, empty.lanes, empty.ticks) == ((), (), ())


def test_a_region_lies_where_its_frame_and_its_box_say():
    frames = [frame(0), frame(100, Box(400, 64, 800, 128)), frame(200), frame(300)]
    (lane,) = lay_out(frames).lanes
    (region,) = lane.regions
    spot = region.spot
    # The second of four frames, a quarter down it; across from a quarter of the width, over half of it.
    assert (spot.left, spot.width) == (pytest.approx(0.25 + 0.25 * 0.25), pytest.approx(0.25 * 0.5))
    assert (spot.top, spot.height) == (0.25, 0.5)


def test_a_gap_in_the_positions_is_a_gap_in_the_map():
    frames = [frame(0), frame(100), frame(200), frame(900, Box(0, 0, WIDTH, HEIGHT))]
    (region,) = lay_out(frames).lanes[0].regions
    assert (region.spot.left, region.spot.width) == (pytest.approx(0.9), pytest.approx(0.1))


def test_positions_count_in_whatever_order_frames_come():
    frames = [frame(100, Box(0, 0, WIDTH, HEIGHT)), frame(0)]
    (region,) = lay_out(frames).lanes[0].regions
    assert region.spot.left == pytest.approx(0.5)


def test_cameras_side_by_side_share_the_scale():
    frames = [
        frame(position, *([Box(0, 0, WIDTH, HEIGHT)] if position == 100 else []), camera=camera)
        for position in (0, 100)
        for camera in ("left", "right")
    ]
    lanes = lay_out(frames).lanes
    assert [lane.camera for lane in lanes] == ["left", "right"]
    assert [lane.regions[0].spot.left for lane in lanes] == [pytest.approx(0.5)] * 2


def test_coils_follow_each_other_and_are_as_long_as_they_are():
    frames = [frame(0, coil="C1"), frame(100, coil="C1"), frame(200, coil="C1"), frame(0, coil="C2")]
    first, second = lay_out([*frames, frame(100, coil="C2")]).coils
    assert (first.name, first.left, first.width, first.frames) == ("C1", 0, pytest.approx(0.6), 3)
    assert (second.name, second.left, second.width) == ("C2", pytest.approx(0.6), pytest.approx(0.4))
    assert (first.start_mm, first.end_mm) == (0, 300)


def test_without_positions_frames_stand_in_their_order():
    frames = [frame(None), frame(None), frame(None, Box(0, 0, WIDTH, HEIGHT)), frame(None)]
    strip = lay_out(frames)
    assert strip.lanes[0].regions[0].spot.left == pytest.approx(0.5)
    assert (strip.coils[0].start_mm, strip.ticks) == (None, ())


def test_one_coil_without_positions_makes_all_widths_frames():
    frames = [frame(0, coil="C1"), frame(5000, coil="C1"), frame(None, coil=None), frame(None, coil=None)]
    assert [coil.width for coil in lay_out(frames).coils] == [pytest.approx(0.5)] * 2


def test_a_single_frame_fills_the_map():
    strip = lay_out([frame(700, Box(0, 0, WIDTH, HEIGHT))])
    assert strip.lanes[0].regions[0].spot.width == pytest.approx(1)


def test_dead_frames_take_their_place_without_regions():
    lane = lay_out([frame(0), frame(100, verdict="dead")]).lanes[0]
    assert [(spot.left, spot.width, spot.height) for spot in lane.dead] == [(pytest.approx(0.5), pytest.approx(0.5), 1)]


def test_small_regions_lie_above_large_ones():
    lane = lay_out([frame(0, Box(5, 5, 10, 10), Box(0, 0, WIDTH, HEIGHT))]).lanes[0]
    widths = [region.spot.width for region in lane.regions]
    assert widths == sorted(widths, reverse=True)


def test_ticks_are_round_and_few():
    ticks = lay_out([frame(320.0 * number) for number in range(100)]).ticks
    assert [tick.position_mm for tick in ticks] == [5000.0 * number for number in range(7)]
    assert (ticks[0].starts_coil, ticks[1].starts_coil) == (True, False)
    assert ticks[1].left == pytest.approx(5000 / 32_000)


def test_ticks_leave_room_where_the_next_coil_begins():
    frames = [frame(100.0 * number, coil=coil) for coil in ("C1", "C2") for number in range(51)]
    first_coil = [tick.position_mm for tick in lay_out(frames).ticks if tick.left < 0.5]
    assert first_coil == [0, 2000, 4000]


def test_a_long_strip_is_told_in_metres():
    assert lay_out([frame(500.0 * number) for number in range(100)]).in_metres
    assert not lay_out([frame(number) for number in range(100)]).in_metres
