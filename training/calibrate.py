"""Thresholds and least areas for a trained cascade, chosen on validation frames alone.

The gate is set for recall: what it lets pass as clean nobody looks at again. For each class, the classifier's
threshold, the pixel threshold and the least area are chosen together for the best F1 of regions: the harmonic mean of
the share of true regions found and the share of found regions that are real.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from training.dataset import FrameSet, labels
from training.export import ClassSettings
from training.networks import CellScorer, Segmenter
from training.train import as_input

GATE_RECALL = 0.992
"""Share of defective validation frames that must pass the gate."""

CLASS_THRESHOLDS = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
MASK_THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
LEAST_AREAS = (60, 120, 200, 300, 450, 700)

FOUND_SHARE = 0.25
"""Share of a true region's pixels that the found mask must cover for the region to count as found."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Numbers of 8-connected regions: true ones, those found, all in the found mask, those that touch no true one."""

    true: int = 0
    found: int = 0
    drawn: int = 0
    invented: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.true + other.true,
            self.found + other.found,
            self.drawn + other.drawn,
            self.invented + other.invented,
        )

    @property
    def f1(self) -> float:
        """Harmonic mean of the found share and the share of drawn regions that touch a true one, in [0, 1]."""
        if not self.found:
            return 0.0
        recall, precision = self.found / self.true, 1 - self.invented / self.drawn
        return 2 * recall * precision / (recall + precision) if precision else 0.0


def tally(found: NDArray[np.uint8], true: NDArray[np.uint8]) -> Tally:
    """Compare two masks of one class, uint8 0/1 ``[height, width]``."""
    true_numbers, sizes = _regions(true)
    drawn_numbers, drawn_sizes = _regions(found)
    covered = np.bincount(true_numbers[found > 0], minlength=len(sizes))[1:]
    shared = np.bincount(drawn_numbers[true > 0], minlength=len(drawn_sizes))[1:]
    return Tally(
        true=len(sizes) - 1,
        found=int((covered >= FOUND_SHARE * sizes[1:]).sum()),
        drawn=len(drawn_sizes) - 1,
        invented=int((shared == 0).sum()),
    )


def class_scores(
    gate: CellScorer, classifier: CellScorer, frames: FrameSet
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scores of all frames in [0, 1]: the gate's ``[frames]`` and the classifier's ``[frames, 4]``."""
    gate_scores, scores = [], []
    with torch.no_grad():
        for number in range(len(frames)):
            image = as_input(frames.image(number)[None])
            gate_scores.append(torch.sigmoid(gate(image)).numpy()[:, 0])
            scores.append(torch.sigmoid(classifier(image)).numpy())
    return np.concatenate(gate_scores), np.concatenate(scores)


def gate_threshold(scores: NDArray[np.float32], defective: NDArray[np.bool_]) -> float:
    """The highest threshold that keeps ``GATE_RECALL`` of the defective frames; a score equal to it passes.

    ``scores`` float ``[frames]`` in [0, 1], ``defective`` bool ``[frames]``, at least one of them true.
    """
    ascending = np.sort(scores[defective])
    spared = int((1 - GATE_RECALL) * len(ascending))
    return float(ascending[spared])


def class_settings(
    index: int,
    segmenter: Segmenter,
    frames: FrameSet,
    passed: NDArray[np.bool_],
    scores: NDArray[np.float32],
) -> tuple[ClassSettings, Tally]:
    """The best settings of class ``index`` (0 to 3) and what they give.

    ``passed`` bool ``[frames]``: which frames the gate lets through. ``scores`` float ``[frames]``: the classifier's of
    this class.
    """
    candidates = list(product(CLASS_THRESHOLDS, MASK_THRESHOLDS, LEAST_AREAS))
    sums = dict.fromkeys(candidates, Tally())
    present = labels(frames)[:, index]
    for number in np.flatnonzero(present | (passed & (scores >= CLASS_THRESHOLDS[0]))).tolist():
        true = frames.masks(number)[index]
        nothing = tally(np.zeros_like(true), true)
        with torch.no_grad():
            pixel_scores = torch.sigmoid(segmenter(as_input(frames.image(number)[None])))[0, 0].numpy()
        for mask_threshold in MASK_THRESHOLDS:
            mask = (pixel_scores > mask_threshold).astype(np.uint8)
            result, area = tally(mask, true), int(mask.sum())
            for candidate in candidates:
                if candidate[1] == mask_threshold:
                    shown = passed[number] and scores[number] >= candidate[0] and area >= candidate[2]
                    sums[candidate] += result if shown else nothing
    best = max(candidates, key=lambda candidate: sums[candidate].f1)
    return ClassSettings(*best), sums[best]


def _regions(mask: NDArray[np.uint8]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Numbers int32 ``[height, width]`` of the 8-connected regions, from 1, and the areas by number (0: background)."""
    _, numbers, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8, ltype=cv2.CV_32S)
    return np.asarray(numbers, np.int32), np.asarray(stats[:, cv2.CC_STAT_AREA], np.int32)
