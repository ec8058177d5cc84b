"""Does an engine still say what its model says? The limits, and what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_SCORE_DIFFERENCE: Final = 0.02
"""The most that a gate or class score may be off, and the distance from a threshold within which a verdict may flip."""

MAX_FLIPPED_SHARE: Final = 0.001
"""The most of a frame's pixels that a mask may differ in."""

MIN_DICE: Final = 0.98
"""The least Dice coefficient of a mask with the reference's, where the reference's has over ``DICE_PIXELS`` pixels."""

DICE_PIXELS: Final = 500
"""Below this a handful of pixels on a border moves the coefficient more than any verdict."""

COMPARED_FRAMES: Final = 24
"""Frames that are compared at most: enough for every class to occur, few enough for a build of seconds on two cores."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far one engine is from the reference, at worst, over ``frames`` frames.

    Scores and verdicts for the gate and the classifier, the rest for a segmenter; what was not measured is None, and
    ``min_dice`` is None as well where no mask was large enough. ``verdicts_flipped`` are all verdicts that differ,
    ``far_verdicts_flipped`` those of them whose score is further than ``MAX_SCORE_DIFFERENCE`` from its threshold.
    """

    frames: int
    max_score_difference: float | None = None
    verdicts_flipped: int | None = None
    far_verdicts_flipped: int | None = None
    max_flipped_share: float | None = None
    min_dice: float | None = None

    def problem(self) -> str | None:
        """The first limit that is broken, as part of a sentence; None where the engine agrees."""
        if self.max_score_difference is not None and not self.max_score_difference <= MAX_SCORE_DIFFERENCE:
            return f"a score is off by {self.max_score_difference:.4f}, allowed is {MAX_SCORE_DIFFERENCE}"
        if self.far_verdicts_flipped:
            return f"{self.far_verdicts_flipped} verdicts flip further than {MAX_SCORE_DIFFERENCE} from their threshold"
        if self.max_flipped_share is not None and self.max_flipped_share > MAX_FLIPPED_SHARE:
            return f"{self.max_flipped_share:.3%} of a mask's frame flip, allowed is {MAX_FLIPPED_SHARE:.1%}"
        if self.min_dice is not None and self.min_dice < MIN_DICE:
            return f"a mask's Dice is {self.min_dice:.4f}, at least {MIN_DICE} is asked of over {DICE_PIXELS} pixels"
        return None
