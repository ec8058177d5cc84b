"""Defects drawn on their frame: translucent mask, contour, box and label, in the colour of the class.

True masks, where there are any, are dashed white contours with dark labels, so that a found and a true mask that
coincide can still be told apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from daemon.pictures.labels import place_labels
from daemon.pictures.palette import BLACK, WHITE, Colour, class_colour
from engines.results import Box

Grey = NDArray[np.uint8]
Picture = NDArray[np.uint8]

FILL_OPACITY = 0.3
"""Of a mask's fill: the surface under it must stay readable, the contour carries the shape."""

TEXT_SHARE = 0.011
"""Height of letters as a share of the picture's width: 18 pixels on a frame of 1600."""

_MIN_TEXT_PX = 11
_MIN_PICTURE_WIDTH = 640
_DASH_PX = 7
_TRUTH_LABEL_BACKGROUND = Colour(24, 24, 27)


@dataclass(frozen=True, slots=True)
class Mark:
    """Something to draw: ``mask`` uint8 or bool ``[height, width]`` of the frame (None where only the box is known)."""

    class_id: int
    label: str
    box: Box
    mask: Grey | None


def draw(frame: Grey, found: Sequence[Mark], truth: Sequence[Mark] = (), *, text_share: float = TEXT_SHARE) -> Picture:
    """The picture, BGR uint8 ``[height, width, 3]``, of a grey frame uint8 ``[height, width]`` with its marks.

    True masks are filled only where no found ones are given, for a fill can tell only one of them. ``text_share`` is
    the height of letters as a share of the picture's width. A frame narrower than 640 pixels is enlarged by a whole
    factor, or its labels would hide it.
    """
    factor = max(1, -(-_MIN_PICTURE_WIDTH // frame.shape[1]))
    found = [_enlarge(mark, factor) for mark in found]
    truth = [_enlarge(mark, factor) for mark in truth]
    picture = cv2.cvtColor(_repeat(frame, factor), cv2.COLOR_GRAY2BGR).astype(np.uint8, copy=False)
    for mark in found or truth:
        _fill(picture, mark)
    for mark in found:
        _outline(picture, mark)
    for mark in truth:
        _dashes(picture, mark)
    _labels(picture, found, truth, max(_MIN_TEXT_PX, round(picture.shape[1] * text_share)))
    return picture


def _repeat(image: Grey, factor: int) -> Grey:
    return image if factor == 1 else image.repeat(factor, axis=0).repeat(factor, axis=1)


def _enlarge(mark: Mark, factor: int) -> Mark:
    box = mark.box
    return Mark(
        mark.class_id,
        mark.label,
        Box(box.x * factor, box.y * factor, box.width * factor, box.height * factor),
        None if mark.mask is None else _repeat(mark.mask, factor),
    )


def _window(box: Box) -> tuple[slice, slice]:
    return slice(box.y, box.y + box.height), slice(box.x, box.x + box.width)


def _fill(picture: Picture, mark: Mark) -> None:
    if mark.mask is None:
        return
    window = _window(mark.box)
    area, inside = picture[window], mark.mask[window] != 0
    tint = np.array(class_colour(mark.class_id).bgr, dtype=np.float32)
    area[inside] = (area[inside] * (1 - FILL_OPACITY) + tint * FILL_OPACITY + 0.5).astype(np.uint8)


def _contours(mark: Mark) -> list[NDArray[np.int32]]:
    """Closed contours of the mask, holes included: int32 ``[n, 1, 2]`` each."""
    if mark.mask is None:
        return []
    contours, _ = cv2.findContours((mark.mask != 0).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return [np.asarray(contour, dtype=np.int32) for contour in contours]


def _outline(picture: Picture, mark: Mark) -> None:
    colour = class_colour(mark.class_id)
    cv2.drawContours(picture, _contours(mark), -1, colour.bgr, 1, cv2.LINE_8)
    # A dark line beside the coloured one keeps the box visible on bright steel.
    height, width = picture.shape[:2]
    left, top = max(1, mark.box.x - 4), max(1, mark.box.y - 4)
    right = min(width - 2, mark.box.x + mark.box.width + 3)
    bottom = min(height - 2, mark.box.y + mark.box.height + 3)
    cv2.rectangle(picture, (left - 1, top - 1), (right + 1, bottom + 1), BLACK.bgr, 1)
    cv2.rectangle(picture, (left, top), (right, bottom), colour.bgr, 1)


def _dashes(picture: Picture, mark: Mark) -> None:
    dashes = np.zeros(picture.shape[:2], dtype=np.uint8)
    for contour in _contours(mark):
        x, y = contour[:, 0, 0], contour[:, 0, 1]
        on = np.arange(len(x)) // _DASH_PX % 2 == 0
        dashes[y[on], x[on]] = 1
    # White alone would be lost on bright steel: a dark rim goes around it.
    picture[cv2.dilate(dashes, np.ones((4, 4), np.uint8)) != 0] = BLACK.bgr
    picture[cv2.dilate(dashes, np.ones((2, 2), np.uint8)) != 0] = WHITE.bgr


@cache
def _font() -> cv2.FontFace:
    # OpenCV's own TrueType face (Rubik, with fallbacks for other scripts): class names need not be ASCII.
    return cv2.FontFace("sans")


def _labels(picture: Picture, found: Sequence[Mark], truth: Sequence[Mark], text_px: int) -> None:
    height, width = picture.shape[:2]
    pad_x, pad_y = text_px // 3, text_px // 5
    marks = [mark for mark in (*found, *truth) if mark.label]
    named = sum(1 for mark in found if mark.label)
    sizes = []
    for mark in marks:
        _, _, text_width, _ = cv2.getTextSize((0, 0), mark.label, (0, 0), _font(), text_px, 600)
        sizes.append((text_width + 2 * pad_x, text_px + 2 * pad_y))
    # Four pixels of air, the distance between a box's line and its pixels.
    anchors = [Box(mark.box.x - 4, mark.box.y - 4, mark.box.width + 8, mark.box.height + 8) for mark in marks]
    for index, (x, y) in enumerate(place_labels(sizes, anchors, width, height)):
        colour = class_colour(marks[index].class_id)
        background, ink = (colour, colour.ink) if index < named else (_TRUTH_LABEL_BACKGROUND, colour)
        label_width, label_height = sizes[index]
        cv2.rectangle(picture, (x, y), (x + label_width - 1, y + label_height - 1), background.bgr, cv2.FILLED)
        # The face's capitals are seven tenths of its size high; this puts them in the middle of the label.
        baseline = y + (label_height + round(text_px * 0.7)) // 2
        cv2.putText(picture, marks[index].label, (x + pad_x, baseline), ink.bgr, _font(), text_px, 600)
