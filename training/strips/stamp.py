"""Small drawings on a strip: a window of the frame, a change of brightness in it, and where the drawn thing is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from training.strips.sampler import HEIGHT, WIDTH, FloatImage, Sampler

Mask = npt.NDArray[np.uint8]
Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class Window:
    """A rectangle of the frame: columns left..right and rows top..bottom, ends excluded."""

    left: int
    top: int
    right: int
    bottom: int

    @classmethod
    def around(cls, x: float, y: float, half_width: float, half_height: float) -> Window:
        """Return the part inside the frame of a rectangle about (x, y); it is empty if that lies outside."""
        left, top = max(0, int(x - half_width)), max(0, int(y - half_height))
        right, bottom = min(WIDTH, int(x + half_width) + 1), min(HEIGHT, int(y + half_height) + 1)
        return cls(left, top, max(left, right), max(top, bottom))

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.bottom - self.top, self.right - self.left

    def of(self, image: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """Return this window's view of an array [..., 256, 1600]."""
        return image[..., self.top : self.bottom, self.left : self.right]

    def grid(self) -> tuple[FloatImage, FloatImage]:
        """Return x as a row, float32 [1, width], and y as a column, float32 [height, 1], in frame coordinates."""
        x = np.arange(self.left, self.right, dtype=np.float32)[None]
        return x, np.arange(self.top, self.bottom, dtype=np.float32)[:, None]


@dataclass(frozen=True)
class Stamp:
    """A drawing: `shading` is added to the logarithm of brightness, `core` (0/1) tells the drawn thing itself."""

    window: Window
    shading: FloatImage
    core: Mask


class Sheet:
    """A float canvas for one window, drawn on with frame coordinates at a sixteenth of a pixel."""

    SHIFT = 4

    def __init__(self, window: Window) -> None:
        self.window = window
        self.ink: FloatImage = np.zeros(window.shape, np.float32)

    def _fixed(self, x: float, y: float) -> tuple[int, int]:
        scale = 1 << self.SHIFT
        return round((x - self.window.left) * scale), round((y - self.window.top) * scale)

    def ellipse(self, x: float, y: float, a: float, b: float, angle: float = 0.0, value: float = 1.0) -> None:
        """Fill an ellipse with half axes a (before turning: along x) and b, in pixels, turned by `angle` degrees."""
        scale = 1 << self.SHIFT
        axes = (max(1, int(a * scale)), max(1, int(b * scale)))
        cv2.ellipse(self.ink, self._fixed(x, y), axes, angle, 0, 360, value, -1, cv2.LINE_AA, self.SHIFT)

    def path(self, x: npt.ArrayLike, y: npt.ArrayLike, thickness: int = 1, value: float = 1.0) -> None:
        """Draw an open polyline through the points (x[i], y[i])."""
        scale = 1 << self.SHIFT
        points = np.stack([np.asarray(x) - self.window.left, np.asarray(y) - self.window.top], 1) * scale
        line = points.round().astype(np.int32)
        cv2.polylines(self.ink, [line], False, value, thickness, cv2.LINE_AA, self.SHIFT)

    def soft(self, scale: float) -> FloatImage:
        """Return the ink blurred by a Gaussian of `scale` pixels."""
        return np.asarray(cv2.GaussianBlur(self.ink, (0, 0), scale), np.float32)


def relief(height: FloatImage, toward_x: float, toward_y: float) -> FloatImage:
    """Return the shading of a height field lit at a grazing angle: one flank bright, the other dark.

    It is the derivative of `height` along (toward_x, toward_y), whose length is the strength of the effect.
    """
    slope: FloatImage = toward_x * cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=1)
    slope += toward_y * cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=1)
    return slope


def shifted(image: FloatImage, right: int, down: int) -> FloatImage:
    """Return `image` moved by whole pixels, filled with 0: the lit or shaded side beside a drawn line."""
    moved: FloatImage = np.zeros_like(image)
    height, width = image.shape
    source = image[max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]
    moved[max(0, down) : height - max(0, -down), max(0, right) : width - max(0, -right)] = source
    return moved


def threshold(values: npt.NDArray[np.floating | np.integer], level: float) -> Mask:
    """Return 1 where `values` exceeds `level`, else 0."""
    return (values > level).astype(np.uint8)


def spread(rng: Sampler, low: float, high: float) -> float:
    """Return a number between `low` and `high`, uniform in its logarithm: sizes of things that span a wide range."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
