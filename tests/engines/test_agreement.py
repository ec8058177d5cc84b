"""The limits of agreement, and that the comparison sees what breaks them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType

import numpy as np
import pytest

from engines.agreement import Agreement
from engines.backend import Index, Scores
from engines.definition import CascadeDefinition, load_definition
from engines.images import Frame
from engines.reference import ReferenceAnswers
from engines.rle import Mask
from tests.support.tiny_cascade import CLEAN, GREY, class_score, frame_with, gate_score, mask_of, write_tiny_cascade


@pytest.mark.parametrize(
    ("agreement", "problem"),
    [
        (Agreement(frames=4, max_score_difference=0.02, verdicts_flipped=1, far_verdicts_flipped=0), None),
        (Agreement(frames=4, max_score_difference=0.0201, verdicts_flipped=0), "a score is off by 0.0201"),
        (Agreement(frames=4, max_score_difference=float("nan"), verdicts_flipped=0), "a score is off by nan"),
        (Agreement(frames=4, max_score_difference=0.0, verdicts_flipped=1, far_verdicts_flipped=1), "1 verdicts flip"),
        (Agreement(frames=4, max_flipped_share=0.001, min_dice=0.98), None),
        (Agreement(frames=4, max_flipped_share=0.00101, min_dice=1.0), "0.101% of a mask's frame flip"),
        (Agreement(frames=4, max_flipped_share=0.0, min_dice=0.9799), "Dice is 0.9799"),
        (Agreement(frames=4, max_flipped_share=0.0), None),
    ],
)
def test_limits(agreement: Agreement, problem: str | None) -> None:
    said = agreement.problem()
    assert said is None if problem is None else said is not None and problem in said


FRAMES = [
    frame_with(),
    frame_with({1: [(10, 10, 30, 20)]}),
    frame_with({3: [(50, 5, 40, 40)]}),
    frame_with({2: [(1, 1, 9, 9)], 4: [(80, 30, 60, 30)]}),
    frame_with({1: [(0, 0, 20, 20)]}),
]


class WrongSlot:
    """Answers as the tiny cascade does, with a known error."""

    def __init__(self, score_error: float = 0.0, wrong_pixels: int = 0) -> None:
        self._score_error = score_error
        self._wrong_pixels = wrong_pixels
        self._frames: list[Frame] = []
        self.batches: list[int] = []

    def __enter__(self) -> WrongSlot:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def load(self, frames: Sequence[Frame]) -> None:
        self._frames = list(frames)
        self.batches.append(len(frames))

    def gate(self, index: Index) -> Scores:
        return np.array([gate_score(self._frames[n]) for n in index], np.float32) + np.float32(self._score_error)

    def classify(self, index: Index) -> Scores:
        scores = [[class_score(self._frames[n], class_id) for class_id in GREY] for n in index]
        found = np.array(scores, np.float32)
        found[:, 2] -= np.float32(self._score_error)
        return found

    def segment(self, class_number: int, index: Index, threshold: float) -> Iterator[Mask]:
        for number in index:
            mask = mask_of(self._frames[number], class_number + 1, threshold).T.copy()
            mask.reshape(-1)[: self._wrong_pixels] ^= 1
            yield mask


@pytest.fixture(scope="module")
def definition(tmp_path_factory: pytest.TempPathFactory) -> CascadeDefinition:
    return load_definition(write_tiny_cascade(tmp_path_factory.mktemp("tiny"), recording=False))


def test_scores(definition: CascadeDefinition) -> None:
    for stage in definition.stages[:2]:
        reference = ReferenceAnswers(stage, definition, FRAMES)
        exact = reference.compare(WrongSlot(), 2)
        assert exact.frames == 5
        assert exact.max_score_difference == pytest.approx(0, abs=1e-5)
        assert exact.problem() is None
        off = reference.compare(WrongSlot(0.03), 2)
        assert off.max_score_difference == pytest.approx(0.03, abs=1e-4)
        assert off.problem() is not None


def test_a_flip_far_from_the_threshold_counts(definition: CascadeDefinition) -> None:
    reference = ReferenceAnswers(definition.stages[0], definition, FRAMES)
    for error, flipped in ((0.01, 0), (0.9, 1), (-0.9, 4)):
        found = reference.compare(WrongSlot(error), 5)
        assert (found.verdicts_flipped, found.far_verdicts_flipped) == (flipped, flipped)


def test_a_flip_at_the_threshold_is_told_and_allowed(definition: CascadeDefinition) -> None:
    # The gate says of a departure of 40 grey values 0.5, which is its threshold.
    at_threshold = frame_with()
    at_threshold[0, 0] = CLEAN + 40
    reference = ReferenceAnswers(definition.stages[0], definition, [*FRAMES, at_threshold])
    found = reference.compare(WrongSlot(-0.01), 5)
    assert (found.verdicts_flipped, found.far_verdicts_flipped) == (1, 0)
    assert found.problem() is None


def test_masks(definition: CascadeDefinition) -> None:
    stage = definition.stages[2]
    reference = ReferenceAnswers(stage, definition, FRAMES)
    exact = reference.compare(WrongSlot(), 2)
    assert (exact.max_flipped_share, exact.min_dice) == (0, 1)
    few = reference.compare(WrongSlot(wrong_pixels=10), 2)
    assert few.max_flipped_share == pytest.approx(10 / (64 * 160))
    assert few.problem() is None
    many = reference.compare(WrongSlot(wrong_pixels=40), 2)
    assert many.max_flipped_share == pytest.approx(40 / (64 * 160))
    # Only the patch of 600 pixels is large enough for a Dice; the 40 wrong pixels lie outside it.
    assert many.min_dice == pytest.approx(2 * 600 / (600 + 640))
    assert many.problem() is not None


@pytest.mark.parametrize(("batch_size", "batches"), [(2, [2, 2, 2]), (8, [8])])
def test_frames_come_in_full_batches_and_the_last_begins_anew(
    definition: CascadeDefinition, batch_size: int, batches: list[int]
) -> None:
    for stage in (definition.stages[0], definition.stages[2]):
        slot = WrongSlot()
        found = ReferenceAnswers(stage, definition, FRAMES).compare(slot, batch_size)
        assert slot.batches == batches
        assert (found.frames, found.problem()) == (5, None)


def test_a_frame_that_comes_twice_counts_once(definition: CascadeDefinition) -> None:
    found = ReferenceAnswers(definition.stages[0], definition, FRAMES).compare(WrongSlot(-0.9), 8)
    assert (found.verdicts_flipped, found.far_verdicts_flipped) == (4, 4)


def test_a_score_that_is_no_number_is_seen_in_every_batch(definition: CascadeDefinition) -> None:
    class BrokenSlot(WrongSlot):
        def gate(self, index: Index) -> Scores:
            scores = super().gate(index)
            scores[self.broken] = np.nan
            return scores

    for broken in ([0, 1], [0], []):
        slot = BrokenSlot()
        slot.broken = broken
        said = ReferenceAnswers(definition.stages[0], definition, FRAMES).compare(slot, 2).problem()
        assert said == ("a score is off by nan, allowed is 0.02" if broken else None)
