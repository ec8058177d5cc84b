"""Frames of any size for networks of one size, and masks back."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np

from engines.backend import Frames
from engines.definition import InputSize


def to_input(frame: Frames, size: InputSize) -> Frames:
    """A frame uint8 ``[height, width]`` at the cascade's size; the very same array where it has that size already."""
    height, width = frame.shape
    if (height, width) == (size.height, size.width):
        return frame
    # Averaging whole areas keeps small defects visible when shrinking; it would show blocks when growing.
    shrinking = size.height * size.width < height * width
    method = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    return cast(Frames, cv2.resize(frame, (size.width, size.height), interpolation=method))


def from_input(transposed: Frames, height: int, width: int) -> Frames:
    """A transposed mask uint8 0/1 ``[input width, input height]`` at the frame's own size, ``[width, height]``."""
    if transposed.shape == (width, height):
        return transposed
    resized = cv2.resize(transposed, (height, width), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.ascontiguousarray(resized, dtype=np.uint8)
