"""Class 1, small pits and specks: one compact mark of some 15-40 x 20-90 pixels, most often near the coil's rim."""

from __future__ import annotations

import math

import cv2
import numpy as np

from training.strips.sampler import Sampler
from training.strips.stamp import Sheet, Stamp, Window, relief, shifted, threshold


def cluster(rng: Sampler, x: float, y: float) -> Stamp:
    """Several dark-and-bright pits crowded into an upright, slightly leaning ellipse."""
    half_width, half_height = rng.uniform(5, 13), rng.uniform(10, 36)
    window = Window.around(x, y, half_width + half_height * 0.4 + 14, half_height + 14)
    sheet, cover = Sheet(window), Sheet(window)
    lean = rng.uniform(-0.35, 0.35)
    for _ in range(rng.integer(6, 22)):
        down = rng.uniform(-1, 1) * half_height
        across = rng.uniform(-1, 1) * half_width * math.sqrt(max(0.1, 1 - (down / half_height) ** 2))
        radius = rng.uniform(1.2, 3.4)
        at = (x + across + lean * down, y + down)
        sheet.ellipse(*at, radius, radius * rng.uniform(0.7, 2.2), rng.uniform(-25, 25), rng.uniform(0.5, 1.0))
        cover.ellipse(*at, radius + 3, radius + 4)
    height = sheet.soft(rng.uniform(0.6, 1.1))
    height *= 1.0 + rng.uniform(0.1, 0.6) * rng.texture("pebble", *window.shape)
    strength = rng.uniform(1.2, 2.4)
    shading = relief(height, strength * rng.uniform(-0.8, 0.8), strength * rng.sign(0.7) * rng.uniform(0.4, 1.0))
    shading -= rng.uniform(0.2, 0.8) * height
    if rng.chance(0.4):  # bright blisters between the pits
        specks = np.maximum(rng.texture("fine", *window.shape) - 0.8, 0.0)
        shading += rng.uniform(0.4, 0.9) * specks * np.minimum(cover.soft(2.0), 1.0)
    return Stamp(window, np.clip(shading, -1.5, 0.9), threshold(cover.ink, 0.5))


def blister(rng: Sampler, x: float, y: float) -> Stamp:
    """A lens-shaped island of bright blisters on a darker ground."""
    half_width, half_height = rng.uniform(7, 19), rng.uniform(18, 48)
    window = Window.around(x, y, half_width + 10, half_height + 10)
    sheet = Sheet(window)
    sheet.ellipse(x, y, half_width, half_height, rng.uniform(-12, 12))
    cover = sheet.soft(2.0)
    bumps = rng.texture("pebble", *window.shape) + rng.uniform(0.0, 0.4) * rng.texture("fine", *window.shape)
    height = np.maximum(bumps, 0.0) * cover
    strength = rng.uniform(0.5, 1.0)
    shading = relief(height, strength * rng.uniform(-0.7, 0.7), strength * rng.sign())
    shading += rng.uniform(0.6, 1.4) * np.maximum(bumps - 0.8, 0.0) * cover - rng.uniform(0.1, 0.4) * cover
    return Stamp(window, np.clip(shading, -1.3, 1.3), threshold(cover, 0.5))


def loop(rng: Sampler, x: float, y: float) -> Stamp:
    """A narrow upright loop, as of a rolled-in sliver, with a dark spot inside."""
    half_width, half_height = rng.uniform(4, 11), rng.uniform(14, 42)
    window = Window.around(x, y, half_width + 12, half_height + 12)
    turn = np.linspace(0.0, 2.0 * math.pi, 60)
    pinch = np.abs(np.sin(turn / 2)) ** rng.uniform(0.0, 1.2)
    wobble = rng.uniform(0.2, 0.7)
    sheet = Sheet(window)
    sheet.path(
        x + half_width * np.cos(turn) * pinch + wobble * rng.curve(60, 2),
        y + half_height * np.sin(turn) + wobble * rng.curve(60, 2),
        rng.integer(1, 3),
    )
    line = sheet.soft(0.6) * np.clip(1 + 0.4 * rng.texture("pebble", *window.shape), 0.3, 1.7)
    shading = shifted(line, rng.sign() * 2, 0) * rng.uniform(0.2, 0.6) - rng.uniform(0.7, 1.2) * line
    spot, body = Sheet(window), Sheet(window)
    spot.ellipse(x, y + rng.uniform(-0.5, 0.5) * half_height, half_width * 0.5, rng.uniform(4, 10))
    shading -= rng.uniform(0.2, 0.9) * spot.soft(1.5)
    body.ellipse(x, y, half_width + 1, half_height + 1)
    return Stamp(window, np.clip(shading, -1.5, 0.7), threshold(body.ink, 0.5))


def tick(rng: Sampler, x: float, y: float) -> Stamp:
    """A short hooked nick of two to four strokes, bright or dark, with a shadow."""
    count = rng.integer(3, 5)
    across = np.cumsum([rng.normal(6.0) for _ in range(count)])
    down = np.cumsum([rng.uniform(4.0, 14.0) for _ in range(count)])
    xs, ys = x + across - across.mean(), y + down - down.mean()
    window = Window.around(x, y, float(np.ptp(across)) / 2 + 24, float(np.ptp(down)) / 2 + 14)
    sheet = Sheet(window)
    sheet.path(xs, ys, rng.integer(3, 5))
    line = sheet.soft(rng.uniform(0.6, 1.1)) * np.clip(1 + 0.4 * rng.texture("pebble", *window.shape), 0.3, 2.0)
    strength = rng.uniform(0.7, 1.2) * rng.sign(0.6)
    shading = strength * line - rng.uniform(0.3, 0.7) * strength * shifted(line, rng.integer(2, 4) * rng.sign(), 2)
    return Stamp(window, np.clip(shading, -1.4, 1.2), threshold(line, 0.25))


def slot(rng: Sampler, x: float, y: float) -> Stamp:
    """A dark upright gouge, wide in the middle, with torn flecks about it."""
    half_width, half_height = rng.uniform(4, 9), rng.uniform(18, 44)
    window = Window.around(x, y, half_width + 24, half_height + 12)
    xs, ys = window.grid()
    down = (ys - y) / half_height
    middle = x + rng.uniform(-0.3, 0.3) * (ys - y) + 1.5 * rng.curve(ys.size, 8)[:, None]
    width = half_width * np.sqrt(np.clip(1.0 - down**2, 0.02, 1.0))
    depth = 1.2 - np.abs(xs - middle) / width + 0.45 * rng.texture("flame", *window.shape)
    cover = np.clip(depth * 1.6, 0.0, 1.0) * (np.abs(down) < 1.0)
    cover = cv2.GaussianBlur(cover.astype(np.float32), (0, 0), 0.8)
    flecks = np.maximum(rng.texture("dash", *window.shape) - 0.9, 0.0) * np.minimum(2.0 * cover, 1.0)
    shading = relief(cover, rng.uniform(0.8, 1.4) * rng.sign(), rng.uniform(-0.4, 0.4)) - rng.uniform(0.6, 1.0) * cover
    shading += rng.uniform(0.5, 1.2) * flecks
    return Stamp(window, np.clip(shading, -1.5, 0.8), threshold(cover, 0.4))


REPERTOIRE = ((cluster, 0.34), (blister, 0.16), (loop, 0.18), (tick, 0.16), (slot, 0.16))
