"""The side of the coil: a dark gap beyond the strip, bands along its rim and stains that hug it. All of it clean."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from training.strips.sampler import HEIGHT, WIDTH, FloatImage, Sampler
from training.strips.stamp import spread

# Nothing is labelled closer to the rim than this, in pixels: the rim's own bands would hide it.
RIM = 8


@dataclass(frozen=True)
class Steel:
    """Where the steel is: columns from `left` (included) to `right` (excluded), and the side of a visible rim."""

    left: int = 0
    right: int = WIDTH
    rim: str | None = None

    def near_rim(self, rng: Sampler, spread: float) -> float:
        """Return an x on the steel within about `spread` pixels of the rim, or anywhere if no rim is in view."""
        if self.rim is None:
            return rng.uniform(self.left, self.right)
        distance = min(RIM + 10 + abs(rng.normal(spread)), self.right - self.left - 1.0)
        return self.left + distance if self.rim == "left" else self.right - distance


def choose_edge(rng: Sampler) -> Steel:
    """Return a strip whose rim is in view, on either side; seldom more than half of the frame lies beyond it."""
    beyond = int(rng.uniform(10, WIDTH * 0.55) if rng.chance(0.8) else rng.uniform(WIDTH * 0.55, WIDTH * 0.88))
    return Steel(left=beyond, rim="left") if rng.chance(0.5) else Steel(right=WIDTH - beyond, rim="right")


def draw_edge(rng: Sampler, image: FloatImage, steel: Steel) -> None:
    """Darken the part of `image` (grey levels, in place) beyond the rim of `steel`, and mark the rim."""
    side = steel.rim
    beyond = steel.left if side == "left" else WIDTH - steel.right
    rim = rng.uniform(-4, 4) * np.linspace(-1, 1, HEIGHT, dtype=np.float32)
    rim += rng.uniform(0, 0.4) * rng.curve(HEIGHT, 12)
    x = np.arange(WIDTH, dtype=np.float32)[None]
    depth = x - (beyond + rim[:, None]) if side == "left" else (WIDTH - beyond + rim[:, None]) - x

    profile = np.zeros(WIDTH + 400, np.float32)
    for _ in range(rng.integer(1, 6)):
        start = int(abs(rng.normal(45)))
        profile[start : start + rng.integer(2, 30)] += rng.uniform(-0.3, 0.28)
    profile = cv2.GaussianBlur(profile[None], (0, 0), rng.uniform(1.0, 4.0))[0]
    distance = np.arange(WIDTH + 400, dtype=np.float32)
    profile += rng.uniform(-0.5, 0.4) * np.exp(-distance / rng.uniform(15, 120))
    gain = np.exp(profile)

    near = slice(max(0, beyond - 20), min(WIDTH, beyond + 260))
    if side == "right":
        near = slice(max(0, WIDTH - beyond - 260), min(WIDTH, WIDTH - beyond + 20))
    inside = np.clip(depth[:, near], 0, WIDTH + 399)
    image[:, near] *= gain[inside.astype(np.int32)]
    if rng.chance(0.5):
        image[:, near] *= _stain(rng, inside)
    cover = np.clip(depth / rng.uniform(1.0, 4.0) + 0.5, 0.0, 1.0)
    gap = rng.uniform(1.0, 7.0)
    image *= cover
    image += (1.0 - cover) * gap


def _stain(rng: Sampler, depth: FloatImage) -> FloatImage:
    """Return the brightness factor of long scale stains that follow the rim at `depth` pixels inside it."""
    height, width = depth.shape
    pattern = rng.texture(rng.choose(("flame", "drape")), height, width) + 0.3 * rng.texture("fine", height, width)
    middle, reach = rng.uniform(0, 90), rng.uniform(8, 45)
    closeness = rng.uniform(1.2, 3.0) * np.exp(-(((depth - middle) / reach) ** 2))
    cover = np.clip((pattern + closeness - rng.uniform(1.2, 2.6)) / spread(rng, 0.06, 0.5), 0.0, 1.0)
    cover *= np.clip((240.0 - depth) / 80.0, 0.0, 1.0)
    strength = -rng.uniform(0.1, 0.48) if rng.chance(0.65) else rng.uniform(0.1, 0.35)
    factor: FloatImage = np.exp(strength * cover).astype(np.float32)
    return factor
