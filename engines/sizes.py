"""Frames of any size for networks of one size, and masks back."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np

from engines.definition import InputSize
from engines.images import Frame
from engines.rle import Mask


def to_input(frame: Frame, size: InputSize) -> Frame:
    """A frame uint8 ``[height, width]`` at the cascade's size; the very same array where it has that size already."""
    height, width = frame.shape
    # Averaging whole areas keeps small defects visible where a side shrinks; where one grows it would show blocks. Each
    # has its own step, because OpenCV averages nothing as soon as one side grows: it would drop pixels of the other.
    shrunk = (min(width, size.width), min(height, size.height))
    if shrunk != (width, height):
        frame = cast(Frame, cv2.resize(frame, shrunk, interpolation=cv2.INTER_AREA))
    if shrunk != (size.width, size.height):
        frame = cast(Frame, cv2.resize(frame, (size.width, size.height), interpolation=cv2.INTER_LINEAR))
    return frame


def from_input(transposed: Mask, height: int, width: int) -> Mask:
    """A transposed mask uint8 0/1 ``[input width, input height]`` at the frame's own size, ``[width, height]``."""
    if transposed.shape == (width, height):
        return transposed
    resized = cv2.resize(transposed, (height, width), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.ascontiguousarray(resized, dtype=np.uint8)
