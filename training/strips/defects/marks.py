"""Class 2, fine vertical marks: hairlines of one to three pixels with both ends in the frame and a lit rim."""

from __future__ import annotations

import numpy as np

from training.strips.sampler import HEIGHT, FloatImage, Sampler
from training.strips.stamp import Mask, Stamp, Window


def hairline(rng: Sampler, x: float, y: float) -> Stamp:
    """One hairline, dark with a bright flank (or the reverse), tapering to both ends, sometimes broken."""
    half_height = rng.uniform(35, 95)
    y = min(max(y, half_height + 8), HEIGHT - half_height - 8)
    window = Window.around(x, y, 16, half_height + 4)
    sign = rng.sign(0.25)
    shading, core = _line(rng, window, x, y, half_height, sign)
    return Stamp(window, np.clip(shading, -1.3, 0.9), core)


def pair(rng: Sampler, x: float, y: float) -> Stamp:
    """Two or three hairlines side by side, unlike in length."""
    half_height = rng.uniform(45, 95)
    y = min(max(y, half_height + 8), HEIGHT - half_height - 8)
    window = Window.around(x, y, 26, half_height + 4)
    sign = rng.sign(0.25)
    shading, core = np.zeros(window.shape, np.float32), np.zeros(window.shape, np.uint8)
    step = rng.uniform(6, 11)
    for number in range(rng.integer(2, 3)):
        part = half_height * rng.uniform(0.55, 1.0)
        at = y + rng.uniform(-1, 1) * (half_height - part)
        line, drawn = _line(rng, window, x + (number - 0.5) * step, at, part, sign)
        shading += line
        core |= drawn
    return Stamp(window, np.clip(shading, -1.3, 0.9), core)


def _line(rng: Sampler, window: Window, x: float, y: float, half_height: float, sign: int) -> tuple[FloatImage, Mask]:
    """Return the shading and the core of one tapering line about (x, y)."""
    xs, ys = window.grid()
    rows = ys.size
    middle = x + rng.uniform(-0.04, 0.04) * (ys - y) + rng.uniform(0.2, 0.9) * rng.curve(rows, 20)[:, None]
    taper = np.clip((1.0 - np.abs(ys - y) / half_height) * rng.uniform(3, 10), 0.0, 1.0)
    strength = np.clip(1.0 + rng.uniform(0.1, 0.45) * rng.curve(rows, 6)[:, None], 0.35, 1.6) * taper
    width = rng.uniform(0.8, 1.5)
    line = np.exp(-(((xs - middle) / width) ** 2)) * strength
    flank = np.exp(-(((xs - middle - rng.sign() * (width + 1.6)) / (width * 1.1)) ** 2)) * strength
    shading = sign * rng.uniform(0.5, 1.0) * (line - rng.uniform(0.15, 0.7) * flank)
    core = (np.abs(xs - middle) < 2.2) & (taper > 0.2)
    return shading.astype(np.float32), core.astype(np.uint8)


REPERTOIRE = ((hairline, 0.75), (pair, 0.25))
