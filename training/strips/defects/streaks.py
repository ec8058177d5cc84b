"""Class 3, scratches, splashes and long streaks: the commonest class and the one of most shapes."""

from __future__ import annotations

import math

import cv2
import numpy as np

from training.strips.sampler import HEIGHT, Sampler
from training.strips.stamp import Sheet, Stamp, Window, relief, shifted, spread, threshold


def streak(rng: Sampler, x: float, _y: float) -> Stamp:
    """One to four dark (seldom bright) lines down the strip; each leaves the frame at the top, the bottom or both."""
    count = rng.choose((1, 2, 3, 4), (4, 3, 2, 1))
    reach = 0.0 if count == 1 else rng.uniform(8, 30)
    window = Window.around(x, HEIGHT / 2, reach + 44, HEIGHT / 2)
    xs, ys = window.grid()
    shading, core = np.zeros(window.shape, np.float32), np.zeros(window.shape, np.uint8)
    dark = rng.chance(0.85)
    lean = rng.uniform(-0.08, 0.08)
    for _ in range(count):
        inside = np.ones_like(ys)
        if rng.chance(0.35):
            length = rng.uniform(120, 230)
            inside = np.clip((length - (ys if rng.chance(0.5) else HEIGHT - ys)) / 25.0, 0.0, 1.0)
        middle = x + rng.uniform(-reach, reach) + lean * (ys - HEIGHT / 2)
        middle = middle + rng.uniform(0.0, 0.8) * rng.curve(HEIGHT, 30)[:, None]
        width = spread(rng, 1.0, 5.0)
        strength = np.clip(1.0 + rng.uniform(0.0, 0.35) * rng.curve(HEIGHT, 10)[:, None], 0.4, 1.6) * inside
        line = np.exp(-(np.abs((xs - middle) / width) ** 3)) * strength
        shading += (-rng.uniform(0.4, 1.0) if dark else rng.uniform(0.35, 0.7)) * line.astype(np.float32)
        core |= ((np.abs(xs - middle) < width + 1.0) & (inside > 0.2)).astype(np.uint8)
    return Stamp(window, np.clip(shading, -1.4, 0.9), core)


def splash(rng: Sampler, x: float, y: float) -> Stamp:
    """A dark blotch with a ragged rim, made of runs down the strip and ticks across it."""
    half_width, half_height = spread(rng, 18, 80), spread(rng, 35, 130)
    window = Window.around(x, y, half_width * 1.1, half_height * 1.1)
    xs, ys = window.grid()
    body = np.exp(-2.2 * (((xs - x) / half_width) ** 2 + ((ys - y) / half_height) ** 2))
    runs = rng.uniform(0.4, 1.0) * rng.texture("flame", *window.shape)
    runs = runs + rng.uniform(0.2, 0.6) * rng.texture("wisp", *window.shape)
    runs += rng.uniform(0.3, 0.8) * rng.texture("hairline", *window.shape) + 0.3 * rng.texture("fine", *window.shape)
    runs /= runs.std() + 1e-6
    cover = np.clip((runs + rng.uniform(2.6, 3.8) * body - 2.3) / rng.uniform(0.2, 0.9), 0.0, 1.0) * (body > 0.18)
    shading = -rng.uniform(0.6, 1.3) * cover.astype(np.float32)
    closed = cv2.morphologyEx(threshold(cover, 0.5), cv2.MORPH_CLOSE, np.ones((15, 11), np.uint8))
    core = cv2.morphologyEx(closed, cv2.MORPH_OPEN, np.ones((9, 7), np.uint8))
    return Stamp(window, shading, np.asarray(core, np.uint8))


def trail(rng: Sampler, x: float, y: float) -> Stamp:
    """A long leaning chain of coarse pits in a soft shadow."""
    half_height = rng.uniform(65, 140)
    lean = rng.uniform(-0.35, 0.35)
    across = rng.uniform(5, 14)
    window = Window.around(x, y, half_height * abs(lean) + across * 2.5 + 20, half_height + 20)
    sheet, shadow = Sheet(window), Sheet(window)
    for _ in range(int(half_height * rng.uniform(0.3, 0.6))):
        down = rng.uniform(-1, 1) * half_height
        at = (x + lean * down + rng.normal(across * 0.6), y + down)
        radius = rng.uniform(1.6, 4.5)
        sheet.ellipse(*at, radius, radius * rng.uniform(0.9, 2.6), rng.uniform(-30, 30), rng.uniform(0.5, 1.0))
        shadow.ellipse(*at, radius + 4, radius + 7)
    height = sheet.soft(rng.uniform(0.8, 1.4)) * (1 + rng.uniform(0.1, 0.6) * rng.texture("pebble", *window.shape))
    strength = rng.uniform(1.0, 2.2)
    shading = relief(height, strength * rng.uniform(-0.8, 0.8), strength * rng.sign(0.7) * rng.uniform(0.4, 1.0))
    shading -= rng.uniform(0.2, 0.7) * height + rng.uniform(0.05, 0.3) * shadow.soft(3.0)
    if rng.chance(0.4):  # torn bright flakes between the pits
        flakes = np.maximum(rng.texture("fine", *window.shape) - 0.9, 0.0)
        shading += rng.uniform(0.3, 0.8) * flakes * np.minimum(shadow.soft(2.0), 1.0)
    return Stamp(window, np.clip(shading, -1.5, 0.9), threshold(shadow.ink, 0.5))


def scuff(rng: Sampler, x: float, y: float) -> Stamp:
    """A rubbed patch: bright glints and dark flecks in a slanting area."""
    half_width, half_height = spread(rng, 18, 70), spread(rng, 22, 70)
    window = Window.around(x, y, half_width * 1.3, half_height * 1.3)
    xs, ys = window.grid()
    down = (ys - y) / half_height
    across = (xs - x) / half_width - rng.uniform(-0.6, 0.6) * down
    body = np.clip(1.4 - 1.9 * (across**2 + down**2) + 0.35 * rng.texture("lump", *window.shape), 0.0, 1.0)
    glints = rng.texture(rng.choose(("dash", "fine")), *window.shape)
    flecks = rng.texture("flame", *window.shape) + 0.3 * glints
    shading = np.clip(glints - rng.uniform(0.5, 1.2), 0.0, 1.5) * rng.uniform(0.6, 1.1)
    shading = (shading - np.clip(flecks - rng.uniform(0.0, 0.8), 0.0, 1.0) * rng.uniform(0.3, 0.8)) * body
    return Stamp(window, np.clip(shading, -1.3, 1.1).astype(np.float32), threshold(body, 0.35))


def scratch(rng: Sampler, x: float, y: float) -> Stamp:
    """A curved scratch in any direction but the rolling one, speckled along its lit side."""
    length, bend = rng.uniform(90, 240), rng.uniform(-0.3, 0.3)
    angle = rng.uniform(-0.35, 0.35) * math.pi
    along = np.linspace(-0.5, 0.5, 60)
    bow = bend * length * (1.0 - 4.0 * along**2) + rng.uniform(0.0, 1.5) * rng.curve(60, 3)
    xs = x + length * along * math.cos(angle) - bow * math.sin(angle)
    ys = y + length * along * math.sin(angle) + bow * math.cos(angle)
    half_width, half_height = float(np.abs(xs - x).max()) + 16, float(np.abs(ys - y).max()) + 16
    window = Window.around(x, y, half_width, half_height)
    sheet = Sheet(window)
    sheet.path(xs, ys, rng.integer(3, 6))
    line = sheet.soft(rng.uniform(0.7, 1.4)) * np.clip(1 + 0.5 * rng.texture("pebble", *window.shape), 0.2, 2.0)
    lit = shifted(line, rng.integer(-2, 2), rng.sign() * rng.integer(3, 5))
    shading = rng.uniform(0.4, 1.0) * lit * np.maximum(rng.texture("fine", *window.shape) + 0.5, 0.0)
    shading -= rng.uniform(0.6, 1.1) * line
    return Stamp(window, np.clip(shading, -1.4, 1.0), threshold(line, 0.2))


REPERTOIRE = ((streak, 0.40), (splash, 0.20), (trail, 0.14), (scuff, 0.16), (scratch, 0.10))
