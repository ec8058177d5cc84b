"""From drawings to labels: what is visible enough to be called a defect, and how an annotator would outline it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from training.strips.sampler import HEIGHT, WIDTH, FloatImage
from training.strips.stamp import Mask, Stamp, Window

# Contrast, in standard deviations of the background's own fine detail: a defect has at least VISIBLE; a clean mark
# stays below FAINT. Nothing is drawn in between, where people would not agree.
VISIBLE = 1.7
FAINT = 0.55

# Grey levels added to the background's detail: no camera shows less.
NOISE_FLOOR = 2.0

# Annotators outline a group of marks together and with a margin; sizes in pixels, (across, down).
GROUP = {1: (23, 31), 2: (15, 41), 3: (21, 31), 4: (31, 31)}
MARGIN = {1: (9, 11), 2: (13, 11), 3: (11, 9), 4: (9, 9)}
SMALLEST_REGION_PX = 150


@dataclass(frozen=True)
class Placed:
    """A stamp rendered on a frame: grey levels of its window with it, its core where it may lie, and its contrast."""

    after: FloatImage
    core: Mask
    contrast: float


def render(stamp: Stamp, image: FloatImage, allowed: Mask) -> Placed:
    """Apply `stamp` to its window of `image` (float32 grey levels [256, 1600], unchanged) where `allowed` is 1."""
    window = stamp.window
    before = window.of(image)
    free = window.of(allowed)
    after = np.clip(before * np.exp(stamp.shading * free), 0.0, 255.0).astype(np.float32)
    core = stamp.core & free
    return Placed(after, core, _contrast(image, window, after, core))


def _contrast(image: FloatImage, window: Window, after: FloatImage, core: Mask) -> float:
    """Mean change of brightness on the core, over the spread of the surroundings' fine detail (both over 3x3)."""
    if not core.any():
        return 0.0
    wider = Window(
        max(0, window.left - 24), max(0, window.top - 24), min(WIDTH, window.right + 24), min(HEIGHT, window.bottom + 24)
    )
    around = np.minimum(wider.of(image), 255.0)
    detail = cv2.blur(around - cv2.blur(around, (15, 15)), (3, 3))
    change = cv2.blur(np.abs(after - np.minimum(window.of(image), 255.0)), (3, 3))
    return float(change[core > 0].mean() / (detail.std() + NOISE_FLOOR))


def strengthened(stamp: Stamp, image: FloatImage, allowed: Mask, most: float = 2.2) -> Placed | None:
    """Render `stamp` so that it is VISIBLE, amplified up to `most` times if the background demands it, else None."""
    placed = render(stamp, image, allowed)
    if placed.contrast >= VISIBLE:
        return placed
    gain = 1.1 * VISIBLE / max(placed.contrast, 1e-6)
    if gain > most:
        return None
    placed = render(replace(stamp, shading=stamp.shading * np.float32(gain)), image, allowed)
    return placed if placed.contrast >= VISIBLE else None


def faded(stamp: Stamp, image: FloatImage, allowed: Mask, contrast: float) -> Placed | None:
    """Render `stamp` weakened to about `contrast`, or None if that does not bring it below FAINT."""
    strong = render(stamp, image, allowed)
    gain = np.float32(min(1.0, contrast / max(strong.contrast, 1e-6)))
    placed = render(replace(stamp, shading=stamp.shading * gain), image, allowed)
    return placed if placed.contrast < FAINT else None


def outline(core: Mask, class_id: int) -> Mask:
    """Return the annotator's outline, uint8 0/1 [256, 1600], of the union of all cores of one class.

    Near parts become one region, holes are filled, a margin is added and crumbs are dropped.
    """
    rows = np.flatnonzero(core.any(axis=1))
    columns = np.flatnonzero(core.any(axis=0))
    result: Mask = np.zeros_like(core)
    if not rows.size:
        return result
    # Pad so that closing does not eat into marks that run out of the frame.
    pad = 48
    left, right = max(0, int(columns[0]) - pad), min(WIDTH, int(columns[-1]) + pad + 1)
    part = cv2.copyMakeBorder(core[:, left:right], pad, pad, pad, pad, cv2.BORDER_REPLICATE)
    part = cv2.morphologyEx(part, cv2.MORPH_CLOSE, _ellipse(GROUP[class_id]))
    part = cv2.dilate(part, _ellipse(MARGIN[class_id]))
    part = part[pad:-pad, pad:-pad]
    shapes = cv2.findContours(np.ascontiguousarray(part), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    filled = np.zeros_like(part)
    cv2.drawContours(filled, shapes, -1, 1, cv2.FILLED)
    count, numbers, stats, _ = cv2.connectedComponentsWithStats(filled, connectivity=8)
    kept = np.zeros(count, np.uint8)
    kept[1:] = stats[1:, cv2.CC_STAT_AREA] >= SMALLEST_REGION_PX
    result[:, left:right] = kept[numbers]
    return result


def _ellipse(size: tuple[int, int]) -> Mask:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, size).astype(np.uint8)
