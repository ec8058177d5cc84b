"""What the reference says of the compared frames, and how far an engine is from it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engines.agreement import DICE_PIXELS, MAX_SCORE_DIFFERENCE, Agreement
from engines.backend import Slot
from engines.definition import CascadeDefinition, Stage
from engines.images import Frame
from engines.openvino.reference import ReferenceStage


class ReferenceAnswers:
    """What the reference says of one stage on the compared frames, computed once for all engines of the stage."""

    def __init__(self, stage: Stage, definition: CascadeDefinition, frames: Sequence[Frame]) -> None:
        self._stage = stage
        self._frames = frames
        network = ReferenceStage(stage, definition)
        if stage.class_number is None:
            self._scores: NDArray[np.float32] = np.stack([network.scores(frame) for frame in frames])
            gate = stage.kind == "gate"
            self._thresholds = np.array(
                definition.gate.threshold if gate else [item.threshold for item in definition.classes], np.float32
            )
        else:
            self._mask_threshold = definition.classes[stage.class_number].mask_threshold
            # Bits, since a mask of bytes for every frame would be the largest thing in the builder's memory.
            self._masks = [np.packbits(network.mask(frame, self._mask_threshold)) for frame in frames]

    def compare(self, slot: Slot, batch_size: int) -> Agreement:
        """The agreement of the engine behind ``slot``, in batches of ``batch_size`` frames, the last one padded."""
        if self._stage.class_number is None:
            return self._compare_scores(slot, batch_size)
        return self._compare_masks(slot, batch_size, self._stage.class_number)

    def _compare_scores(self, slot: Slot, batch_size: int) -> Agreement:
        found = np.empty_like(self._scores)
        for start in range(0, len(self._frames), batch_size):
            batch = self._frames[start : start + batch_size]
            index = np.arange(len(batch), dtype=np.int64)
            with slot:
                slot.load(batch)
                found[start : start + len(batch)] = (
                    slot.gate(index) if self._stage.kind == "gate" else slot.classify(index)
                )
        far = np.abs(self._scores - self._thresholds) > MAX_SCORE_DIFFERENCE
        flipped = (found >= self._thresholds) != (self._scores >= self._thresholds)
        return Agreement(
            frames=len(self._frames),
            max_score_difference=float(np.abs(found - self._scores).max()),
            verdicts_flipped=int(flipped.sum()),
            far_verdicts_flipped=int((flipped & far).sum()),
        )

    def _compare_masks(self, slot: Slot, batch_size: int, class_number: int) -> Agreement:
        share, dice = 0.0, None
        for start in range(0, len(self._frames), batch_size):
            batch = self._frames[start : start + batch_size]
            index = np.arange(len(batch), dtype=np.int64)
            with slot:
                slot.load(batch)
                for place, mask in enumerate(slot.segment(class_number, index, self._mask_threshold)):
                    expected = np.unpackbits(self._masks[start + place], count=mask.size).reshape(mask.shape)
                    share = max(share, float(np.count_nonzero(mask != expected)) / mask.size)
                    pixels = int(np.count_nonzero(expected))
                    if pixels > DICE_PIXELS:
                        both = int(np.count_nonzero(mask & expected))
                        coefficient = 2 * both / (pixels + int(np.count_nonzero(mask)))
                        dice = coefficient if dice is None else min(dice, coefficient)
        return Agreement(frames=len(self._frames), max_flipped_share=share, min_dice=dice)
