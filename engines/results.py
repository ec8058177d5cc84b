"""What the cascade says of a frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["clean", "defective"]
Regions = Literal["class", "region"]


@dataclass(frozen=True, slots=True)
class EngineIdentity:
    """What a verdict was made with.

    ``hash`` names the models, ``settings`` what is chosen beside them: thresholds, areas, names, regions, bit depth and
    precisions. Device and library are not named; between them engines agree within :mod:`engines.agreement`'s limits.
    """

    cascade: str
    hash: str
    settings: str
    backend: str


@dataclass(frozen=True, slots=True)
class Box:
    """A tight, axis-parallel box in frame pixels, 0-based; ``width`` and ``height`` are at least 1."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Defect:
    """One defect of one class: all of the class's pixels in the frame, or one 8-connected region of them.

    ``score`` is the classifier's for the class, in [0, 1]. ``area_px`` counts frame pixels. ``rle`` is Kaggle's
    run-length encoding of the mask at the frame's own size (see :mod:`engines.rle`).
    """

    class_id: int
    name: str
    score: float
    area_px: int
    box: Box
    rle: str


@dataclass(frozen=True, slots=True)
class Inspection:
    """The result for one frame.

    ``width`` and ``height`` are the frame's own, in pixels. ``gate_score`` is in [0, 1]. ``class_scores`` has one entry
    per class in the order of the cascade's classes, and is None where the gate ended the inspection.
    """

    width: int
    height: int
    gate_score: float
    class_scores: tuple[float, ...] | None
    defects: tuple[Defect, ...]

    @property
    def verdict(self) -> Verdict:
        """``defective`` where at least one defect passed every threshold and its minimum area."""
        return "defective" if self.defects else "clean"
