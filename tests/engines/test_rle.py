"""Run lengths against two independent encoders, on the cases that break encoders, and in time."""

from __future__ import annotations

import time
from itertools import groupby

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from engines import rle
from engines.errors import UsageError
from engines.results import Box

MASKS = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 1))

EDGES = {
    "empty": np.zeros((256, 1600), np.uint8),
    "full": np.ones((256, 1600), np.uint8),
    "first pixel": np.eye(1, 256 * 1600, 0, dtype=np.uint8).reshape(256, 1600),
    "last pixel": np.eye(1, 256 * 1600, 256 * 1600 - 1, dtype=np.uint8).reshape(256, 1600),
    "one column wide": np.array([[0], [1], [1], [0], [1]], np.uint8),
    "one row high": np.array([[1, 1, 0, 1]], np.uint8),
    "a single pixel": np.ones((1, 1), np.uint8),
    "a single clean pixel": np.zeros((1, 1), np.uint8),
    "a run across a column's end": np.array([[0, 1, 0], [0, 0, 0], [1, 0, 0]], np.uint8),
}


def by_walking(mask: np.ndarray) -> str:
    """The definition, pixel by pixel."""
    words, position = [], 1
    for value, run in groupby(mask.T.reshape(-1).tolist()):
        length = len(list(run))
        if value:
            words += [position, length]
        position += length
    return " ".join(map(str, words))


def by_coco(mask: np.ndarray) -> str:
    """pycocotools' encoder: alternating lengths of zeros and ones in the same order, as LEB128-like text."""
    counts = _coco_counts(coco.encode(np.asfortranarray(mask))["counts"])
    words, position = [], 1
    for number, length in enumerate(counts):
        if number % 2 and length:
            words += [position, length]
        position += length
    return " ".join(map(str, words))


def _coco_counts(text: bytes) -> list[int]:
    counts: list[int] = []
    position = 0
    while position < len(text):
        value, shift, more = 0, 0, True
        while more:
            symbol = text[position] - 48
            value |= (symbol & 0x1F) << shift
            more = bool(symbol & 0x20)
            position, shift = position + 1, shift + 5
            if not more and symbol & 0x10:
                value |= -1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
    return counts


@pytest.mark.parametrize("mask", EDGES.values(), ids=EDGES.keys())
def test_the_edges(mask: np.ndarray) -> None:
    text = rle.encode(mask)
    assert text == by_walking(mask) == by_coco(mask)
    np.testing.assert_array_equal(rle.decode(text, *mask.shape), mask)


@given(MASKS)
def test_every_small_mask(mask: np.ndarray) -> None:
    text = rle.encode(mask)
    assert text == by_walking(mask) == by_coco(mask)
    np.testing.assert_array_equal(rle.decode(text, *mask.shape), mask)
    assert rle.encode(mask.astype(bool)) == text
    assert rle.encode(mask * 255) == text


def test_ten_thousand_random_masks() -> None:
    random = np.random.default_rng(20261122)
    for _ in range(10_000):
        height, width = random.integers(1, 24, 2)
        mask = (random.random((height, width)) < random.random()).astype(np.uint8)
        text = rle.encode(mask)
        assert text == by_walking(mask)
        np.testing.assert_array_equal(rle.decode(text, height, width), mask)


def test_frames_of_full_size_against_coco() -> None:
    random = np.random.default_rng(7)
    for coarseness in (8, 32, 128):
        field = cv2.resize(random.random((256 // coarseness, 1600 // coarseness)), (1600, 256))
        mask = (field > 0.5).astype(np.uint8)
        assert rle.encode(mask) == by_coco(mask)


@pytest.mark.parametrize("transposed", [True, False])
def test_encoding_takes_under_0_3_ms(transposed: bool) -> None:
    """A mask of 256x1600 with 500 runs to its text: transposed as the engines deliver it, and row by row."""
    columns = np.zeros((1600, 256), np.uint8)
    columns[100:600, 60:190] = 1
    mask = columns.T if transposed else np.ascontiguousarray(columns.T)
    assert rle.encode(mask).count(" ") == 2 * 500 - 1

    def seconds() -> float:
        started = time.thread_time()
        rle.encode(mask)
        return time.thread_time() - started

    assert min(seconds() for _ in range(50)) < 0.3e-3


@given(MASKS)
def test_the_whole_mask_as_one_region(mask: np.ndarray) -> None:
    region = rle.whole(np.ascontiguousarray(mask.T))
    if not mask.any():
        assert region is None
        return
    assert region is not None
    rows, columns = np.nonzero(mask)
    left, top = int(columns.min()), int(rows.min())
    assert region.box == Box(left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1)
    assert region.area_px == int(mask.sum())
    assert rle.runs_to_text(region.runs) == rle.encode(mask)


@given(MASKS)
def test_regions_are_8_connected_disjoint_and_complete(mask: np.ndarray) -> None:
    found = rle.regions(np.ascontiguousarray(mask.T))
    total = np.zeros(mask.shape, int)
    for region in found:
        part = rle.decode(rle.runs_to_text(region.runs), *mask.shape)
        assert int(part.sum()) == region.area_px
        rows, columns = np.nonzero(part)
        left, top = int(columns.min()), int(rows.min())
        assert region.box == Box(left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1)
        assert _connected(part)
        # Nothing outside it touches it, diagonals included.
        grown = cv2.dilate(part, np.ones((3, 3), np.uint8))
        assert not (grown & mask & ~part & 1).any()
        total += part
    np.testing.assert_array_equal(total, mask)
    firsts = [int(region.runs[0, 0]) for region in found]
    assert firsts == sorted(firsts)


@given(MASKS, st.integers(0, 9))
def test_regions_below_the_least_area_are_left_out(mask: np.ndarray, least: int) -> None:
    transposed = np.ascontiguousarray(mask.T)
    kept = [rle.runs_to_text(region.runs) for region in rle.regions(transposed, least)]
    assert kept == [rle.runs_to_text(region.runs) for region in rle.regions(transposed) if region.area_px >= least]


def test_no_runs_are_made_of_what_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    specks = np.zeros((160, 64), np.uint8)
    specks[::2, ::2] = 1
    specks[100:110] = 0
    specks[102:106, 8:12] = 1
    made = []
    runs_of = rle.runs_of

    def counted(window: np.ndarray) -> np.ndarray:
        made.append(window.shape)
        return runs_of(window)

    monkeypatch.setattr(rle, "runs_of", counted)
    (only,) = rle.regions(specks, 16)
    assert (only.area_px, only.box) == (16, Box(102, 8, 4, 4))
    assert len(made) == 1


def _connected(part: np.ndarray) -> bool:
    """Whether growing from one pixel reaches all of them."""
    seen = np.zeros_like(part)
    seen[tuple(np.argwhere(part)[0])] = 1
    while True:
        grown = cv2.dilate(seen, np.ones((3, 3), np.uint8)) & part
        if (grown == seen).all():
            return bool((seen == part).all())
        seen = grown


OVERFLOWING = ("9" * 30 + " 1", f"3 {2**63 - 1} 50 1", f"{2**63 - 2} {2**63 - 2}", f"{-(2**63)} 1")


@pytest.mark.parametrize("text", ["1", "1 2 3", "0 1", "3 0", "5 2 6 1", "4 1 2 1", "a b", "1 -2", *OVERFLOWING])
def test_malformed_texts_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        rle.decode(text, 10, 10)


def test_a_run_past_the_end_is_refused() -> None:
    assert rle.decode("100 1", 10, 10)[9, 9] == 1
    with pytest.raises(UsageError, match="10x10 has only 100"):
        rle.decode("100 2", 10, 10)


def test_runs_that_touch_can_be_read_though_they_are_never_written() -> None:
    np.testing.assert_array_equal(rle.decode("2 2 4 1", 5, 1), np.array([[0, 1, 1, 1, 0]], np.uint8).T)
