"""Run-length encoding of masks, as Kaggle's Severstal task defines it.

Pixels are numbered from 1, down each column first, then to the right; a mask is the text ``start length start length``
with ascending starts and runs that never touch. A mask is therefore handled *transposed* here wherever speed matters:
an array ``[width, height]`` in C order lies in memory in exactly the order of the numbering.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.errors import UsageError
from engines.results import Box

MAX_PIXEL: Final = 2**62
"""Beyond that a start and a length do not add up in 64 bits."""

_THREAD: Final = threading.local()

Mask = NDArray[np.uint8]
Runs = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Region:
    """A set of pixels as runs: ``runs`` int64 ``[n, 2]`` of 0-based start and length in column-first order."""

    runs: Runs
    area_px: int
    box: Box


def runs_of(transposed: Mask) -> Runs:
    """Runs of the non-zero pixels of a transposed mask.

    ``transposed`` is uint8 or bool ``[width, height]``, C-contiguous. Returns int64 ``[n, 2]``: 0-based start, length.
    """
    flat = transposed.reshape(-1)
    # Masks of 0 and 1, as the engines make them, are compared as they are: one temporary array of a frame's size stays
    # in the allocator's hands, a second makes it return memory to the system and fault it in again on every call.
    binary = flat if flat.dtype == np.bool_ or flat.max(initial=0) <= 1 else flat != 0
    # A run starts or ends wherever neighbours differ; the two ends of the mask border on nothing.
    edges = np.flatnonzero(binary[1:] != binary[:-1]) + 1
    if binary.size and binary[0]:
        edges = np.concatenate(([0], edges))
    if binary.size and binary[-1]:
        edges = np.concatenate((edges, [binary.size]))
    runs: Runs = edges.reshape(-1, 2)
    runs[:, 1] -= runs[:, 0]
    return runs


def runs_to_text(runs: Runs) -> str:
    """Kaggle's text of runs int64 ``[n, 2]`` (0-based start, length); the empty string for no runs."""
    numbers = (runs + np.array([1, 0], dtype=np.int64)).reshape(-1).tolist()
    # One format for all numbers takes half the time of a string for each.
    return ("%d " * len(numbers) % tuple(numbers)).rstrip()


def runs_from_text(text: str) -> Runs:
    """Runs int64 ``[n, 2]`` (0-based start, length) of Kaggle's text.

    Raises :class:`UsageError` unless the text is ascending pairs of positive numbers whose runs do not overlap.
    """
    try:
        numbers = np.array([int(word) for word in text.split()], dtype=np.int64)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"run lengths are not whole numbers: {error}") from None
    if numbers.size and not 1 <= int(numbers.min()) <= int(numbers.max()) <= MAX_PIXEL:
        raise UsageError(f"run lengths are numbers from 1 to {MAX_PIXEL}")
    if numbers.size % 2:
        raise UsageError(f"run lengths come in pairs, but there are {numbers.size} numbers")
    runs: Runs = numbers.reshape(-1, 2) - np.array([1, 0], dtype=np.int64)
    ends = runs[:, 0] + runs[:, 1]
    if (runs[1:, 0] < ends[:-1]).any():
        raise UsageError("run lengths are not ascending and free of overlap")
    return runs


def encode(mask: Mask) -> str:
    """Kaggle's text of a mask, uint8 or bool ``[height, width]``; any non-zero pixel is set."""
    if mask.T.flags.c_contiguous or not mask.size:
        return runs_to_text(runs_of(mask.T))
    # In blocks that fit the cache: numpy's own transposition takes nine times as long.
    room = _room(mask.shape[1], mask.shape[0])
    cv2.transpose(np.ascontiguousarray(mask).view(np.uint8), room)
    return runs_to_text(runs_of(room))


def _room(width: int, height: int) -> Mask:
    """Room for a transposed mask, the thread's own until its next call: made anew for each mask, it would be faulted in
    again each time, which takes as long as all the rest."""
    room: Mask | None = getattr(_THREAD, "room", None)
    if room is None or room.shape != (width, height):
        room = _THREAD.room = np.empty((width, height), np.uint8)
    return room


def decode(text: str, height: int, width: int) -> Mask:
    """The mask, uint8 0/1 ``[height, width]``, of Kaggle's text.

    Raises :class:`UsageError` where the text is malformed or a run passes the end of the frame.
    """
    runs = runs_from_text(text)
    size = height * width
    if runs.size and int(runs[-1].sum()) > size:
        raise UsageError(f"run lengths end at pixel {int(runs[-1].sum())}, but {width}x{height} has only {size}")
    # +1 where a run starts, -1 where it ends: the running sum is the mask. Runs that touch cancel out at their border.
    steps = np.zeros(size + 1, dtype=np.int8)
    np.add.at(steps, runs[:, 0], 1)
    np.add.at(steps, runs.sum(axis=1), -1)
    flat = np.cumsum(steps[:-1], dtype=np.int8).view(np.uint8)
    return np.ascontiguousarray(flat.reshape(width, height).T)


def whole(transposed: Mask) -> Region | None:
    """All set pixels of a transposed mask ``[width, height]`` as one region; None where there are none."""
    runs = runs_of(transposed)
    if not len(runs):
        return None
    height = transposed.shape[1]
    return Region(runs, int(runs[:, 1].sum()), _box(runs, height))


def regions(transposed: Mask, least_area_px: int = 0) -> list[Region]:
    """The 8-connected regions of a transposed mask uint8 ``[width, height]``, in the order of their first pixel.

    Those of fewer than ``least_area_px`` pixels are left out, and cost nothing: a noisy mask has thousands of specks.
    """
    _, labels, stats, _ = cv2.connectedComponentsWithStats(transposed, connectivity=8, ltype=cv2.CV_32S)
    found = []
    # Label 0 is what is not set.
    for label in (np.flatnonzero(stats[1:, cv2.CC_STAT_AREA] >= least_area_px) + 1).tolist():
        # The picture that OpenCV sees is the transposed one: its y is our x.
        y, x, height, width, area = (int(value) for value in stats[label])
        window = np.ascontiguousarray(labels[x : x + width] == label)
        runs = runs_of(window)
        runs[:, 0] += x * transposed.shape[1]
        found.append(Region(runs, area, Box(x, y, width, height)))
    return sorted(found, key=lambda region: int(region.runs[0, 0]))


def _box(runs: Runs, height: int) -> Box:
    starts, ends = runs[:, 0], runs[:, 0] + runs[:, 1] - 1
    left, right = int(starts[0] // height), int(ends[-1] // height)
    # A run that crosses into the next column touches the bottom row and the top row.
    if (starts // height != ends // height).any():
        return Box(left, 0, right - left + 1, height)
    top, bottom = int((starts % height).min()), int((ends % height).max())
    return Box(left, top, right - left + 1, bottom - top + 1)
