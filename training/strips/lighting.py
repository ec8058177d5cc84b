"""Uneven light on the strip: brighter towards the bottom, one wide hot spot, fall-off to the sides."""

from __future__ import annotations

import math

import cv2
import numpy as np

from training.strips.sampler import HEIGHT, WIDTH, FloatImage, Sampler

# Light varies slowly, so it is computed on a coarse grid and enlarged.
STEP = 8


def mean_brightness(rng: Sampler) -> float:
    """Return the strip's typical grey level, log-normal about the middle of the lower half of the range."""
    return min(max(86.0 * math.exp(rng.normal(0.2)), 45.0), 135.0)


def lighting(rng: Sampler) -> FloatImage:
    """Return the logarithm of the light's strength, float32 [256, 1600], near 0 in the middle of the frame."""
    rows, columns = HEIGHT // STEP, WIDTH // STEP
    y = np.linspace(-0.5, 0.5, rows, dtype=np.float32)[:, None]
    x = np.linspace(-0.5, 0.5, columns, dtype=np.float32)[None]
    light = math.log(rng.uniform(1.1, 1.85)) * y
    spot = ((x - rng.uniform(-0.35, 0.35)) / rng.uniform(0.15, 0.4)) ** 2
    light = light + rng.uniform(0.0, 0.65) * np.exp(-spot) * (0.6 + 0.8 * y)
    light = light - rng.uniform(0.0, 1.2) * x * x + rng.uniform(-0.3, 0.3) * x
    light = light + rng.uniform(0.02, 0.10) * rng.field(2, rng.integer(3, 7), rows, columns)
    enlarged = cv2.resize(light.astype(np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    return np.asarray(enlarged, np.float32)
