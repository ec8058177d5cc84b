"""Things on a clean strip that catch the eye and are no defect: paint marks, tread plate, specks and water spots."""

from __future__ import annotations

import math

import cv2
import numpy as np

from training.strips.sampler import HEIGHT, WIDTH, FloatImage, Sampler
from training.strips.stamp import Mask, Sheet, Window, relief, threshold


def draw_specks(rng: Sampler, log: FloatImage) -> None:
    """Scatter single dark or bright dots of one to three pixels, and rarely pale rings of dried water."""
    for _ in range(rng.integer(0, 30)):
        x, y = rng.uniform(3, WIDTH - 4), rng.uniform(3, HEIGHT - 4)
        sheet = Sheet(Window.around(x, y, 6, 6))
        sheet.ellipse(x, y, rng.uniform(0.6, 2.0), rng.uniform(0.6, 2.4))
        sheet.window.of(log)[...] += rng.uniform(-0.7, 0.3) * sheet.ink
    if rng.chance(0.15):
        middle = rng.uniform(0, WIDTH)
        for _ in range(rng.integer(3, 14)):
            x, y = middle + rng.normal(90), rng.uniform(0, HEIGHT)
            sheet = Sheet(Window.around(x, y, 12, 12))
            radius = rng.uniform(2.5, 6.0)
            turn = np.linspace(0, rng.uniform(3.5, 6.3), 24) + rng.uniform(0, 6.3)
            if sheet.ink.size:
                sheet.path(x + radius * np.cos(turn), y + radius * 1.2 * np.sin(turn))
                sheet.window.of(log)[...] += rng.uniform(0.15, 0.35) * sheet.soft(0.7)


def draw_tread(rng: Sampler, log: FloatImage) -> None:
    """Emboss tread plate: crossing bars (diamonds) or short lens-shaped studs in two directions."""
    diamonds = rng.chance(0.65)
    drawn = _diamonds(rng) if diamonds else _studs(rng)
    height = np.asarray(cv2.GaussianBlur(drawn, (0, 0), rng.uniform(0.8, 2.0)), np.float32)
    strength = rng.uniform(2.0, 4.5)
    shading = relief(height, strength * rng.uniform(0.3, 1.0) * rng.sign(), strength * rng.uniform(-0.3, 0.5))
    log += np.clip(shading, -1.5, 0.5)
    log += height * rng.uniform(-0.1, 0.15)
    log += height * rng.uniform(0.0, 0.12) * rng.texture("pebble")


def _diamonds(rng: Sampler) -> FloatImage:
    y, x = np.arange(HEIGHT, dtype=np.float32)[:, None], np.arange(WIDTH, dtype=np.float32)[None]
    pitch = rng.uniform(70, 140)
    slope = 1.0 / (pitch * rng.uniform(1.5, 2.8))
    half, rim = rng.uniform(3.5, 9.0), rng.uniform(1.0, 3.0)
    across = (x + rng.uniform(0, pitch) + 2.0 * rng.field(2, 5)) / pitch
    height: FloatImage = np.zeros((HEIGHT, WIDTH), np.float32)
    for direction in (slope, -slope):
        turns = across + direction * y
        distance = np.abs(turns - np.round(turns)) * pitch
        height = np.maximum(height, np.clip((half - distance) / rim + 0.5, 0.0, 1.0))
    return height


def _studs(rng: Sampler) -> FloatImage:
    sheet = Sheet(Window(0, 0, WIDTH, HEIGHT))
    pitch = rng.uniform(45, 85)
    length, half, tilt = pitch * rng.uniform(0.36, 0.46), rng.uniform(4, 8), rng.uniform(30, 60)
    shift_x, shift_y = rng.uniform(0, pitch), rng.uniform(0, pitch)
    for row in range(-1, int(HEIGHT / pitch) + 2):
        for column in range(-1, int(WIDTH / pitch) + 2):
            angle = tilt if (row + column) % 2 else -tilt
            sheet.ellipse(column * pitch + shift_x, row * pitch + shift_y, length, half, angle)
    return sheet.ink


def paint(rng: Sampler, image: FloatImage, left: float, right: float) -> Mask:
    """Spray a mark between two columns of `image` (grey levels, in place); return where it lies, uint8 [256, 1600].

    Marks are strokes of merged blobs with a ragged rim, satellites, dashes flung outward, and dried puddles that are
    bright only along their rim.
    """
    middle = rng.uniform(left, right)
    window = Window.around(middle, HEIGHT / 2, 420, HEIGHT / 2)
    sheet = Sheet(window)
    _strokes(rng, sheet, middle)
    ink = sheet.ink
    if rng.chance(0.7):  # grow and merge the blobs, then cut them at a noisy level: a ragged rim
        soft = sheet.soft(rng.uniform(1.0, 3.0))
        soft += threshold(soft, 0.03) * rng.uniform(0.0, 0.3) * rng.texture("pebble", *window.shape)
        soft += threshold(soft, 0.03) * rng.uniform(0.0, 0.2) * rng.texture("grain", *window.shape)
        ink = np.clip((soft - 0.45) * 6.0, 0.0, 1.0) if rng.chance(0.5) else np.maximum(ink, (soft - 0.45) * 6.0)
        ink = np.clip(ink, 0.0, 1.0)
    covered = threshold(ink, 0.3)
    patch = window.of(image)
    if rng.chance(0.6):
        ink = _dry(rng, patch, ink)
    halo = cv2.GaussianBlur(ink, (0, 0), rng.uniform(3, 8))
    halo = halo * rng.uniform(-0.9, 0.3) * np.clip(1.0 + 0.6 * rng.texture("lump", *window.shape), 0.0, 2.0)
    patch *= np.clip(1.0 + halo, 0.2, 2.0)
    colour = rng.uniform(240, 420) if rng.chance(0.85) else rng.uniform(170, 260)
    patch *= 1.0 - ink
    patch += ink * colour * (0.85 + 0.15 * rng.texture("pebble", *window.shape))

    painted: Mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    window.of(painted)[...] = cv2.dilate(covered, np.ones((9, 9), np.uint8))
    return painted


def _strokes(rng: Sampler, sheet: Sheet, middle: float) -> None:
    size = rng.uniform(2.5, 9.0)
    flung = rng.uniform(0.0, 0.6)
    for _ in range(rng.integer(1, 9)):
        x, y, length = middle + rng.normal(rng.uniform(40, 110)), rng.uniform(-30, HEIGHT), rng.uniform(0, 130)
        lean = rng.normal(0.12)
        if rng.chance(0.25):
            lean, length = rng.uniform(-2, 2), rng.uniform(20, 60)
        along = 0.0
        while along <= length:
            radius = size * rng.uniform(0.4, 1.3)
            sheet.ellipse(x + lean * along + rng.normal(2.0), y + along, radius, radius * rng.uniform(1, 2))
            along += radius * rng.uniform(0.6, 1.8)
        for _ in range(rng.integer(0, 25)):
            dx, dy = rng.normal(35), rng.normal(length / 2 + 25)
            drop_x, drop_y = x + dx, y + length / 2 + dy
            radius = abs(rng.normal(2.0)) + 0.3
            sheet.ellipse(drop_x, drop_y, radius, radius)
            if rng.chance(flung):
                reach = rng.uniform(4, 16) / (math.hypot(dx, dy) + 1.0)
                sheet.path((drop_x, drop_x + dx * reach), (drop_y, drop_y + dy * reach))
    for _ in range(rng.integer(0, 25)):
        x, y, angle, length = middle + rng.normal(300), rng.uniform(0, HEIGHT), rng.uniform(0, 6.3), rng.uniform(0, 10)
        end_x, end_y = x + length * math.cos(angle), y + length * math.sin(angle)
        sheet.path((x, end_x), (y, end_y), 1, rng.uniform(0.5, 1.0))


def _dry(rng: Sampler, patch: FloatImage, ink: FloatImage) -> FloatImage:
    """Darken the inside of puddles in `patch` in place; return the ink that stays bright: their rims."""
    side = rng.integer(3, 7)
    eroded = cv2.erode(threshold(ink, 0.5), np.ones((side, side), np.uint8)).astype(np.float32)
    inside = np.asarray(cv2.GaussianBlur(eroded, (0, 0), 1.4), np.float32)
    inside *= np.clip(0.8 + rng.uniform(0.1, 0.7) * rng.texture("pebble", *patch.shape), 0.0, 1.3)
    if rng.chance(0.6):
        inside *= threshold(rng.field(8, 20, *patch.shape), rng.uniform(-0.5, 0.8))
    patch *= np.clip(1.0 - inside * rng.uniform(0.2, 0.9), 0.08, 1.0)
    rims: FloatImage = ink * np.clip(1.0 - inside * rng.uniform(0.7, 1.1), 0.0, 1.0)
    return rims
