"""From drawings to labels: what is visible enough to be called a defect, and how an annotator would outline it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from training.strips.sampler import HEIGHT, WIDTH, FloatImage
from training.strips.stamp import Mask, Stamp, Window, threshold

# Contrast, in standard deviations of the background's own fine detail: a defect has at least VISIBLE; a clean mark
# stays below FAINT. Nothing is drawn in between, where people would not agree.
VISIBLE = 1.9
FAINT = 0.55

# Grey levels added to the background's detail: no camera shows less.
NOISE_FLOOR = 2.0

MOST_GAIN = 2.2

# Annotators outline a group of marks together and with a margin; sizes in pixels, (across, down).
GROUP = {1: (22, 30), 2: (18, 42), 3: (26, 38), 4: (30, 30)}
MARGIN = {1: (10, 10), 2: (14, 10), 3: (10, 10), 4: (10, 10)}
SMALLEST_REGION_PX = {1: 300, 2: 400, 3: 500, 4: 1000}


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
        left=max(0, window.left - 24),
        top=max(0, window.top - 24),
        right=min(WIDTH, window.right + 24),
        bottom=min(HEIGHT, window.bottom + 24),
    )
    around = np.minimum(wider.of(image), 255.0)
    detail = cv2.blur(around - cv2.blur(around, (15, 15)), (3, 3))
    change = cv2.blur(np.abs(after - np.minimum(window.of(image), 255.0)), (3, 3))
    return float(change[core > 0].mean() / (detail.std() + NOISE_FLOOR))


def visible(stamp: Stamp, image: FloatImage, allowed: Mask, weakness: float) -> Placed | None:
    """Render `stamp` so that it is VISIBLE, or return None where the background hides it.

    `weakness` runs from 0 (as drawn) to 1 (toned down until only just visible). A stamp that is too weak for its
    place is amplified, at most MOST_GAIN times.
    """
    placed = render(stamp, image, allowed)
    least = 1.1 * VISIBLE / max(placed.contrast, 1e-6)
    if least > MOST_GAIN:
        return None
    gain = np.float32(least if least > 1.0 else 1.0 - weakness * (1.0 - least))
    placed = render(replace(stamp, shading=stamp.shading * gain), image, allowed)
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
    # Half the resolution is as good for outlines this coarse. Padding lets marks that run out of the frame be joined
    # right up to its border.
    pad = 24
    left, right = max(0, int(columns[0]) - 48) // 2 * 2, min(WIDTH, (int(columns[-1]) + 50) // 2 * 2)
    half = cv2.resize(core[:, left:right] * 255, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    part = cv2.copyMakeBorder(threshold(half, 0), pad, pad, pad, pad, cv2.BORDER_REPLICATE)
    part = cv2.morphologyEx(part, cv2.MORPH_CLOSE, _ellipse(GROUP[class_id]))
    part = cv2.dilate(part, _ellipse(MARGIN[class_id]))
    part = part[pad:-pad, pad:-pad]
    shapes = cv2.findContours(np.ascontiguousarray(part), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    filled = np.zeros_like(part)
    cv2.drawContours(filled, shapes, -1, 1, cv2.FILLED)
    count, numbers, stats, _ = cv2.connectedComponentsWithStats(filled, connectivity=8)
    kept = np.zeros(count, np.uint8)
    kept[1:] = stats[1:, cv2.CC_STAT_AREA] >= SMALLEST_REGION_PX[class_id] / 4
    grown = cv2.resize(kept[numbers] * np.float32(1), (right - left, HEIGHT), interpolation=cv2.INTER_LINEAR)
    result[:, left:right] = threshold(grown, 0.5)
    return result


def _ellipse(size: tuple[int, int]) -> Mask:
    """Return an ellipse of `size` pixels (across, down) for masks of half the resolution."""
    across, down = size
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (across // 2 | 1, down // 2 | 1)).astype(np.uint8)
