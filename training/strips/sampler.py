"""The one source of randomness of a generator: scalars, smooth curves and crops of precomputed noise textures.

Filtering noise afresh costs more than everything else in a frame together, so each texture is filtered once into a
sheet much larger than a frame, and every use takes a random window of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

FloatImage = npt.NDArray[np.float32]
Choice = TypeVar("Choice")

HEIGHT, WIDTH = 256, 1600

SHEET_HEIGHT, SHEET_WIDTH = 448, 2400

# Gaussian scale of each noise texture, (across x, down y) in pixels. Rolled steel is streaked along y.
TEXTURES: dict[str, tuple[float, float]] = {
    "grain": (0.5, 0.4),
    "fine": (1.2, 0.7),
    "dash": (2.2, 0.8),
    "ripple": (6.0, 0.8),
    "bristle": (1.0, 6.0),
    "hairline": (1.2, 40.0),
    "flame": (3.0, 15.0),
    "drape": (6.0, 40.0),
    "curtain": (14.0, 60.0),
    "wisp": (25.0, 3.0),
    "pebble": (2.5, 2.5),
    "lump": (5.0, 5.0),
    "cloud": (12.0, 12.0),
}


def standardise(values: FloatImage) -> FloatImage:
    """Return `values` shifted and scaled to mean 0 and standard deviation 1."""
    standard: FloatImage = (values - values.mean()) / (values.std() + np.float32(1e-9))
    return standard


class Sampler:
    """Deterministic draws: the same seed gives the same sequence of numbers, curves and textures."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._sheets = {name: self._sheet(*scale) for name, scale in TEXTURES.items()}

    def _sheet(self, scale_x: float, scale_y: float) -> FloatImage:
        # A wide filter is as good at a coarser grid and many times cheaper.
        step_x, step_y = max(1, int(scale_x / 2)), max(1, int(scale_y / 2))
        shape = (SHEET_HEIGHT // step_y + 1, SHEET_WIDTH // step_x + 1)
        noise = self._rng.standard_normal(shape, dtype=np.float32)
        smooth = cv2.GaussianBlur(noise, (0, 0), scale_x / step_x, sigmaY=scale_y / step_y)
        enlarged = cv2.resize(smooth, (SHEET_WIDTH, SHEET_HEIGHT), interpolation=cv2.INTER_CUBIC)
        sheet = standardise(np.asarray(enlarged, np.float32))
        sheet.flags.writeable = False
        return sheet

    def uniform(self, low: float, high: float) -> float:
        """Return a number between `low` and `high`."""
        return low + (high - low) * float(self._rng.random())

    def integer(self, low: int, high: int) -> int:
        """Return an integer from `low` to `high`, both included."""
        return int(self._rng.integers(low, high + 1))

    def normal(self, scale: float = 1.0) -> float:
        """Return a normal number of mean 0 and standard deviation `scale`."""
        return float(self._rng.standard_normal()) * scale

    def chance(self, probability: float) -> bool:
        """Return True with the given probability."""
        return bool(self._rng.random() < probability)

    def sign(self, positive: float = 0.5) -> int:
        """Return 1 with probability `positive`, else -1."""
        return 1 if self.chance(positive) else -1

    def choose(self, options: Sequence[Choice], weights: Sequence[float] | None = None) -> Choice:
        """Return one of `options`, in proportion to `weights` (equal if none are given)."""
        chances = np.ones(len(options)) if weights is None else np.asarray(weights, dtype=float)
        return options[int(self._rng.choice(len(options), p=chances / chances.sum()))]

    def texture(self, name: str, height: int = HEIGHT, width: int = WIDTH) -> FloatImage:
        """Return a read-only window, float32 [height, width], of a standard normal texture named in TEXTURES."""
        top = self.integer(0, SHEET_HEIGHT - height)
        left = self.integer(0, SHEET_WIDTH - width)
        return self._sheets[name][top : top + height, left : left + width]

    def curve(self, length: int, scale: float) -> FloatImage:
        """Return standard normal noise, float32 [length], smoothed over about `scale` samples."""
        noise = self._rng.standard_normal((1, length), dtype=np.float32)
        smooth = np.asarray(cv2.GaussianBlur(noise, (0, 0), scale), np.float32)
        return standardise(smooth[0])

    def field(self, rows: int, columns: int, height: int = HEIGHT, width: int = WIDTH) -> FloatImage:
        """Return a smooth field, float32 [height, width], through rows x columns standard normal knots."""
        knots = self._rng.standard_normal((rows, columns), dtype=np.float32)
        return np.asarray(cv2.resize(knots, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)
