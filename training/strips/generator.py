"""Whole strips: background, clutter, defects and camera, put together frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from training.strips.clutter import draw_specks, draw_tread, paint
from training.strips.defects import marks, pits, streaks, torn
from training.strips.edge import RIM, Steel, choose_edge, draw_edge
from training.strips.labels import FAINT, Placed, faded, outline, visible
from training.strips.lighting import lighting, mean_brightness
from training.strips.sampler import HEIGHT, WIDTH, FloatImage, Sampler
from training.strips.stamp import Mask, Stamp
from training.strips.texture import add_surface

Drawing = Callable[[Sampler, float, float], Stamp]

CLASSES = (1, 2, 3, 4)

REPERTOIRES: dict[int, tuple[tuple[Drawing, float], ...]] = {
    1: pits.REPERTOIRE,
    2: marks.REPERTOIRE,
    3: streaks.REPERTOIRE,
    4: torn.REPERTOIRE,
}

# Which classes occur together, and in how many of Severstal's 6,666 defective training frames.
# Source: image_labels of the dataset "Severstal: Steel Defect Detection" (Kaggle 2019).
NATURAL_MIX: dict[tuple[int, ...], int] = {
    (3,): 4759,
    (1,): 769,
    (4,): 516,
    (3, 4): 284,
    (2,): 195,
    (1, 3): 91,
    (1, 2): 35,
    (2, 3): 14,
    (1, 2, 3): 2,
    (2, 4): 1,
}

DEFECTIVE_SHARE = 0.5

# How many marks of a class are put on a frame that has the class, and how likely each number is.
COUNTS: dict[int, tuple[float, ...]] = {
    1: (0.45, 0.30, 0.15, 0.10),
    2: (0.60, 0.30, 0.10),
    3: (0.36, 0.30, 0.18, 0.10, 0.06),
    4: (0.70, 0.30),
}

# Distance from the coil's rim, in pixels, within which most marks of a class lie; None: anywhere.
RIM_SPREAD: dict[int, float | None] = {1: 90.0, 2: 120.0, 3: None, 4: None}

# A smaller remnant of a mark, in pixels of its core, is not drawn: it would no longer look like its class.
SMALLEST_CORE_PX = {1: 60, 2: 60, 3: 350, 4: 1500}

# How far a mark may be toned down from what was drawn towards the limit of visibility. Small marks need their contrast.
MOST_WEAKNESS = {1: 0.35, 2: 0.3, 3: 0.65, 4: 0.6}

# A mark can fall on a painted, crowded or hidden place; then another is tried.
TRIES_PER_MARK = 6
TRIES_PER_FRAME = 40


@dataclass(frozen=True)
class Strip:
    """One frame: `image` uint8 [256, 1600], `masks` uint8 0/1 [4, 256, 1600] (class k in plane k - 1)."""

    image: Mask
    masks: Mask
    kind: str

    @property
    def classes(self) -> tuple[int, ...]:
        """The defect classes, 1 to 4, that are present, ascending."""
        return tuple(number for number in CLASSES if self.masks[number - 1].any())


@dataclass
class _Scene:
    """A frame in the making: grey levels, where marks may still lie (1), and the cores drawn so far, by class."""

    image: FloatImage
    allowed: Mask
    steel: Steel
    kind: str
    cores: dict[int, Mask]

    def put(self, stamp: Stamp, placed: Placed) -> None:
        """Take over a rendered stamp."""
        stamp.window.of(self.image)[...] = placed.after


class StripGenerator:
    """An endless, deterministic source of frames: equal seeds and equal calls give equal bytes."""

    def __init__(self, seed: int) -> None:
        self._rng = Sampler(seed)

    def frame(self, defective: bool | None = None, classes: Sequence[int] | None = None) -> Strip:
        """Return the next frame.

        `defective` None draws the natural share of defective frames. `classes` names exactly the classes that a
        defective frame has; None draws the natural mix. Raises ValueError for a class outside 1 to 4, or for classes
        asked of a clean frame.
        """
        if classes is not None:
            if not classes or not set(classes) <= set(CLASSES):
                raise ValueError(f"classes must be some of {CLASSES}, not {tuple(classes)}")
            if defective is False:
                raise ValueError("a clean frame has no classes: leave out defective=False or classes")
        elif self._rng.chance(DEFECTIVE_SHARE) if defective is None else defective:
            classes = self._rng.choose(tuple(NATURAL_MIX), tuple(NATURAL_MIX.values()))
        wanted = tuple(sorted(set(classes or ())))
        for _ in range(TRIES_PER_FRAME):
            scene = self._background(bool(wanted))
            # The largest first: small marks find a place beside large ones, not the other way round.
            if all(self._draw_class(scene, number) for number in reversed(wanted)):
                strip = self._develop(scene)
                # Grouping and margins can join what was drawn apart: a pixel of two classes has no single right answer.
                if strip.classes == wanted and (len(wanted) < 2 or strip.masks.sum(axis=0).max() == 1):
                    return strip
        raise RuntimeError(f"no visible defect of classes {wanted} in {TRIES_PER_FRAME} frames")

    def _background(self, defective: bool) -> _Scene:
        rng = self._rng
        log = lighting(rng)
        kind = add_surface(rng, log)
        draw_specks(rng, log)
        if rng.chance(0.01 if defective else 0.10):
            draw_tread(rng, log)
            kind = "tread"
        image = np.asarray(cv2.exp(log), np.float32) * np.float32(mean_brightness(rng))
        allowed: Mask = np.ones((HEIGHT, WIDTH), np.uint8)
        steel = choose_edge(rng) if rng.chance(0.42) else Steel()
        if rng.chance(0.12 if defective else 0.34):
            kind = "paint"
            for _ in range(rng.integer(1, 2)):
                allowed &= 1 - paint(rng, image, steel.left + 60, steel.right - 60)
        if steel.rim is not None:
            draw_edge(rng, image, steel)
        allowed[:, : steel.left + (RIM if steel.left else 0)] = 0
        allowed[:, steel.right - (RIM if steel.right < WIDTH else 0) :] = 0
        scene = _Scene(image, allowed, steel, kind, {})
        if rng.chance(0.4):
            for _ in range(rng.integer(1, 5)):
                self._draw_faint(scene)
        return scene

    def _stamp(self, class_id: int, steel: Steel) -> Stamp:
        rng = self._rng
        drawings, weights = zip(*REPERTOIRES[class_id], strict=True)
        near = RIM_SPREAD[class_id]
        x = rng.uniform(steel.left, steel.right) if near is None or rng.chance(0.3) else steel.near_rim(rng, near)
        drawing: Drawing = rng.choose(drawings, weights)
        return drawing(rng, x, rng.uniform(10, HEIGHT - 10))

    def _draw_class(self, scene: _Scene, class_id: int) -> bool:
        """Draw marks of one class; return whether at least one has come out visible."""
        counts = COUNTS[class_id]
        number = self._rng.choose(range(1, len(counts) + 1), counts)
        core: Mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        for _ in range(number):
            for _ in range(TRIES_PER_MARK):
                stamp = self._stamp(class_id, scene.steel)
                # Half a mark, cut by paint or the rim, no longer looks like its class.
                inside = np.count_nonzero(stamp.core & stamp.window.of(scene.allowed))
                if inside < SMALLEST_CORE_PX[class_id] or inside < 0.7 * np.count_nonzero(stamp.core):
                    continue
                placed = visible(stamp, scene.image, scene.allowed, self._rng.uniform(0.0, MOST_WEAKNESS[class_id]))
                if placed is not None:
                    scene.put(stamp, placed)
                    stamp.window.of(core)[...] |= placed.core
                    break
        if not core.any():
            return False
        scene.cores[class_id] = core
        # Marks of different classes keep apart.
        scene.allowed[cv2.dilate(core, np.ones((41, 41), np.uint8)) > 0] = 0
        return True

    def _draw_faint(self, scene: _Scene) -> None:
        rng = self._rng
        stamp = self._stamp(rng.choose((1, 2, 3), (1, 1, 3)), scene.steel)
        if stamp.core.any():
            placed = faded(stamp, scene.image, scene.allowed, rng.uniform(0.15, 0.85) * FAINT)
            if placed is not None:
                scene.put(stamp, placed)

    def _develop(self, scene: _Scene) -> Strip:
        """Take the picture: a little blur, sensor noise, eight bits."""
        rng = self._rng
        image = scene.image
        if rng.chance(0.35):
            image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.6)), np.float32)
        noise, strength = rng.texture("grain"), rng.uniform(0.5, 2.0)
        levels = cv2.addWeighted(image, 1.0, noise, strength, 0.0, dtype=cv2.CV_8U)
        masks: Mask = np.zeros((len(CLASSES), HEIGHT, WIDTH), np.uint8)
        for number, core in scene.cores.items():
            masks[number - 1] = outline(core, number)
        return Strip(np.asarray(levels, np.uint8), masks, scene.kind)
