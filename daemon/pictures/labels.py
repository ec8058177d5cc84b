"""Where labels go: next to the box they belong to, inside the picture, and not on top of each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engines.results import Box

_SEARCH_STEP = 4
"""Grid of the search for a free place, in pixels: finer than a label is high, coarse enough to try every place."""

_Corners = NDArray[np.int64]


def place_labels(
    sizes: Sequence[tuple[int, int]], anchors: Sequence[Box], width: int, height: int
) -> list[tuple[int, int]]:
    """The left upper corner of each label in a picture of ``width`` x ``height`` pixels.

    ``sizes`` holds width and height of each label, ``anchors`` the box that it names. A label goes above, below, beside
    or inside its box, where it lies on no other label and covers least of any box; where all of these lie on another
    label, to the nearest free place; and where the picture is full, to the place that covers least. A label never
    leaves the picture unless it is larger than it.
    """
    boxes = np.array([(box.x, box.y, box.x + box.width, box.y + box.height) for box in anchors], dtype=np.int64)
    labels = np.empty((0, 4), dtype=np.int64)
    places: list[tuple[int, int]] = []
    for size, anchor in zip(sizes, anchors, strict=True):
        corners = _beside(size, anchor, width, height)
        on_labels = _covered(corners, size, labels)
        if on_labels.min() > 0:
            corners = np.concatenate((corners, _anywhere(size, anchor, width, height)))
            on_labels = _covered(corners, size, labels)
        free = corners[on_labels == on_labels.min()]
        # Candidates come in the order of preference, and argmin takes the first of equals.
        x, y = (int(value) for value in free[int(_covered(free, size, boxes).argmin())])
        places.append((x, y))
        labels = np.concatenate((labels, [[x, y, x + size[0], y + size[1]]]))
    return places


def _beside(size: tuple[int, int], anchor: Box, width: int, height: int) -> _Corners:
    """Places that touch the box, best first; int64 ``[n, 2]`` of x, y."""
    left, right = anchor.x, anchor.x + anchor.width
    top, bottom = anchor.y, anchor.y + anchor.height
    wanted = np.array(
        [
            (left, top - size[1]),
            (right - size[0], top - size[1]),
            (left, bottom),
            (right - size[0], bottom),
            (right, top),
            (left - size[0], top),
            (left, top),
            (right - size[0], bottom - size[1]),
        ],
        dtype=np.int64,
    )
    return _clamp(wanted, size, width, height)


def _anywhere(size: tuple[int, int], anchor: Box, width: int, height: int) -> _Corners:
    """A grid over the whole picture, nearest to the box first; int64 ``[n, 2]`` of x, y."""
    xs = np.arange(0, max(1, width - size[0] + 1), _SEARCH_STEP)
    ys = np.arange(0, max(1, height - size[1] + 1), _SEARCH_STEP)
    grid = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2).astype(np.int64)
    home = np.array((anchor.x, anchor.y - size[1]))
    return grid[np.argsort(np.abs(grid - home).sum(axis=1), kind="stable")]


def _clamp(corners: _Corners, size: tuple[int, int], width: int, height: int) -> _Corners:
    limit = np.array((max(0, width - size[0]), max(0, height - size[1])), dtype=np.int64)
    clamped: _Corners = np.clip(corners, 0, limit)
    return clamped


def _covered(corners: _Corners, size: tuple[int, int], taken: _Corners) -> NDArray[np.int64]:
    """How many pixels of the rectangles ``taken`` (left, top, right, bottom) a label at each corner would cover."""
    ends = corners + np.array(size)
    across = np.minimum(ends[:, None, :], taken[None, :, 2:]) - np.maximum(corners[:, None, :], taken[None, :, :2])
    total: NDArray[np.int64] = np.clip(across, 0, None).prod(axis=2).sum(axis=1)
    return total
