"""Class 4, rough patches and torn scale: relief over an area of thousands of pixels."""

from __future__ import annotations

import math

import cv2
import numpy as np

from training.strips.sampler import FloatImage, Sampler
from training.strips.stamp import Sheet, Stamp, Window, relief, shifted, spread, threshold


def _patch(rng: Sampler, x: float, y: float) -> tuple[Window, FloatImage]:
    """Return a window and the ragged cover, 0..1, of a large patch in it."""
    half_width, half_height = spread(rng, 38, 240), spread(rng, 32, 125)
    window = Window.around(x, y, half_width * 1.25, half_height * 1.25)
    xs, ys = window.grid()
    level = 1.0 - ((xs - x) / half_width) ** 2 - ((ys - y) / half_height) ** 2
    level = level + rng.uniform(0.15, 0.5) * rng.texture("cloud", *window.shape)
    level += rng.uniform(0.05, 0.2) * rng.texture("lump", *window.shape)
    cover = np.clip(level / rng.uniform(0.05, 0.5), 0.0, 1.0).astype(np.float32)
    # One patch, no islands: those would be too small for their class.
    count, parts, stats, _ = cv2.connectedComponentsWithStats(threshold(cover, 0.0))
    if count > 2:
        cover *= parts == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    return window, cover


def _coarse(rng: Sampler, window: Window, zoom: float) -> FloatImage:
    """Return the texture "cloud", `zoom` times as coarse, for a window."""
    height, width = window.shape
    small = rng.texture("cloud", int(height / zoom) + 1, int(width / zoom) + 1)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def rough(rng: Sampler, x: float, y: float) -> Stamp:
    """A patch of coarse lumps and hollows."""
    window, cover = _patch(rng, x, y)
    zoom = spread(rng, 0.8, 2.2)
    height = rng.uniform(4, 9) * zoom * _coarse(rng, window, zoom)
    height = height + rng.uniform(1.5, 3.0) * rng.texture("lump", *window.shape)
    height += rng.uniform(0.1, 0.7) * rng.texture("pebble", *window.shape) + 4.0
    strength = rng.uniform(0.25, 0.5)
    shading = relief(height * cover, strength * rng.uniform(-0.7, 0.7), strength * rng.sign(0.6))
    shading -= rng.uniform(0.0, 0.4) * cover
    return Stamp(window, np.clip(shading, -1.4, 0.9), threshold(cover, 0.3))


def torn(rng: Sampler, x: float, y: float) -> Stamp:
    """Overlapping lips of torn scale: ridges with one dark, deep side."""
    window, cover = _patch(rng, x, y)
    zoom = spread(rng, 0.8, 2.5)
    folds = np.abs(_coarse(rng, window, zoom) + 0.25 * rng.texture("lump", *window.shape))
    lips = np.clip(1.0 - rng.uniform(1.2, 2.2) * folds, 0.0, 1.0)
    height = rng.uniform(4, 8) * zoom * lips + rng.uniform(0.6, 1.6) * rng.texture("lump", *window.shape)
    height += rng.uniform(0.1, 0.6) * rng.texture("pebble", *window.shape) + 3.0
    strength = rng.uniform(0.3, 0.55)
    shading = relief(height * cover, strength * rng.uniform(-0.7, 0.7), strength * rng.sign(0.6))
    shading -= (rng.uniform(0.1, 0.4) + rng.uniform(0.0, 0.6) * (1.0 - lips)) * cover
    return Stamp(window, np.clip(shading, -1.5, 0.9), threshold(cover, 0.3))


def ploughed(rng: Sampler, x: float, y: float) -> Stamp:
    """A patch whose relief is drawn out along the rolling direction."""
    window, cover = _patch(rng, x, y)
    height = rng.uniform(2, 4) * rng.texture("lump", *window.shape) + 2.0
    height += rng.uniform(1.2, 2.4) * rng.texture("flame", *window.shape)
    height += rng.uniform(0.1, 0.6) * rng.texture("pebble", *window.shape)
    strength = rng.uniform(0.3, 0.6)
    shading = relief(height * cover, strength * rng.sign() * rng.uniform(0.4, 0.9), strength * rng.sign(0.6))
    shading -= rng.uniform(0.05, 0.45) * cover
    return Stamp(window, np.clip(shading, -1.4, 0.9), threshold(cover, 0.3))


def crazed(rng: Sampler, x: float, y: float) -> Stamp:
    """A darker plate of scale crossed by wandering cracks with a lit lip."""
    window, cover = _patch(rng, x, y)
    half_height, half_width = window.shape[0] / 2, window.shape[1] / 2
    sheet = Sheet(window)
    for _ in range(rng.integer(4, 10)):
        steps = rng.integer(10, 34)
        heading = rng.normal(0.5) + np.cumsum(rng.curve(steps, 1)) * 0.25 + 0.5 * rng.curve(steps, 1)
        step = rng.uniform(5, 10)
        xs = x + rng.uniform(-0.8, 0.6) * half_width + np.cumsum(np.cos(heading)) * step
        ys = y + rng.uniform(-0.8, 0.8) * half_height + np.cumsum(np.sin(heading)) * step
        sheet.path(xs, ys, rng.integer(2, 4), rng.uniform(0.6, 1.0))
    crack = sheet.soft(rng.uniform(0.7, 1.3)) * cover
    lip = shifted(crack, 0, rng.sign() * rng.integer(2, 4)) * np.maximum(rng.texture("pebble", *window.shape) + 0.6, 0)
    shading = rng.uniform(0.3, 0.8) * lip - rng.uniform(0.8, 1.5) * crack
    plate = 1.0 + 0.5 * rng.texture("lump", *window.shape)
    shading -= rng.uniform(0.15, 0.45) * cover * plate
    lumps = relief(rng.texture("cloud", *window.shape) * 4.0 * cover, 0.1 * math.copysign(1, rng.normal()), 0.15)
    return Stamp(window, np.clip(shading + lumps, -1.5, 0.9), threshold(cover, 0.3))


REPERTOIRE = ((rough, 0.28), (torn, 0.30), (ploughed, 0.20), (crazed, 0.22))
