"""What the reference says of the compared frames, and how far an engine is from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from engines.agreement import DICE_PIXELS, MAX_SCORE_DIFFERENCE, Agreement
from engines.backend import Index, Scores, Slot
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
        """The agreement of the engine behind ``slot``, in full batches of ``batch_size`` frames.

        The last batch begins the frames anew: a smaller one would be another engine's where the slot has several, and
        with fewer frames than a batch holds the engine would never run at all.
        """
        if self._stage.class_number is None:
            return self._compare_scores(slot, batch_size)
        return self._compare_masks(slot, batch_size, self._stage.class_number)

    def _compare_scores(self, slot: Slot, batch_size: int) -> Agreement:
        difference = 0.0
        flipped = np.zeros(self._scores.shape, bool)
        for numbers in self._batches(batch_size):
            expected = self._scores[numbers]
            with slot:
                found = self._run(slot, numbers)
                # Not max(), which would lose a NaN.
                difference = float(np.maximum(difference, np.abs(found - expected).max()))
                # A frame that comes twice counts once.
                np.logical_or.at(flipped, numbers, (found >= self._thresholds) != (expected >= self._thresholds))
        far = np.abs(self._scores - self._thresholds) > MAX_SCORE_DIFFERENCE
        return Agreement(
            frames=len(self._frames),
            max_score_difference=difference,
            verdicts_flipped=int(flipped.sum()),
            far_verdicts_flipped=int((flipped & far).sum()),
        )

    def _run(self, slot: Slot, numbers: Index) -> Scores:
        slot.load([self._frames[number] for number in numbers])
        every = np.arange(len(numbers), dtype=np.int64)
        return slot.gate(every) if self._stage.kind == "gate" else slot.classify(every)

    def _compare_masks(self, slot: Slot, batch_size: int, class_number: int) -> Agreement:
        share, dice = 0.0, None
        for numbers in self._batches(batch_size):
            with slot:
                slot.load([self._frames[number] for number in numbers])
                every = np.arange(batch_size, dtype=np.int64)
                masks = slot.segment(class_number, every, self._mask_threshold)
                for number, mask in zip(numbers, masks, strict=True):
                    expected = np.unpackbits(self._masks[number], count=mask.size).reshape(mask.shape)
                    share = max(share, float(np.count_nonzero(mask != expected)) / mask.size)
                    pixels = int(np.count_nonzero(expected))
                    if pixels > DICE_PIXELS:
                        both = int(np.count_nonzero(mask & expected))
                        coefficient = 2 * both / (pixels + int(np.count_nonzero(mask)))
                        dice = coefficient if dice is None else min(dice, coefficient)
        return Agreement(frames=len(self._frames), max_flipped_share=share, min_dice=dice)

    def _batches(self, batch_size: int) -> Iterator[Index]:
        """Numbers of the frames, int64 ``[batch_size]``, until each of them has come."""
        for start in range(0, len(self._frames), batch_size):
            yield np.arange(start, start + batch_size, dtype=np.int64) % len(self._frames)
