"""Thresholds and least areas for a trained cascade, chosen on validation frames alone.

The gate is set for recall: what it lets pass as clean nobody looks at again. For each class, the classifier's
threshold, the pixel threshold and the least area are chosen together for the best F2 of regions: a defect that is
missed leaves the mill, one that is invented costs a look, so the share found counts twice as much as the share that is
real.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

from training.dataset import FrameSet, labels
from training.export import ClassSettings
from training.networks import CellScorer, Classifier, Segmenter
from training.regions import Tally, tally
from training.train import as_input

GATE_RECALL = 0.992
"""Share of defective validation frames that must pass the gate."""

# What is tried; where results are equal, the one that comes first is taken. Of least areas that is the largest: what it
# drops on no validation frame is sooner invented than true on another.
CLASS_THRESHOLDS = (0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8, 0.15, 0.1, 0.05)
MASK_THRESHOLDS = (0.5, 0.4, 0.6, 0.3, 0.7)
LEAST_AREAS = (1000, 700, 450, 300, 200, 150, 100)


def class_scores(
    gate: CellScorer, classifier: Classifier, frames: FrameSet
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
    for number in np.flatnonzero(present | (passed & (scores >= min(CLASS_THRESHOLDS)))).tolist():
        true = frames.masks(number)[index]
        nothing = tally(np.zeros_like(true), true)
        with torch.no_grad():
            pixel_scores = torch.sigmoid(segmenter(as_input(frames.image(number)[None])))[0, 0].numpy()
        for mask_threshold, least_area in product(MASK_THRESHOLDS, LEAST_AREAS):
            shown = tally((pixel_scores > mask_threshold).astype(np.uint8), true, least_area)
            for class_threshold in CLASS_THRESHOLDS:
                passes = passed[number] and scores[number] >= class_threshold
                sums[class_threshold, mask_threshold, least_area] += shown if passes else nothing
    best = max(candidates, key=lambda candidate: sums[candidate].f2)
    return ClassSettings(*best), sums[best]
