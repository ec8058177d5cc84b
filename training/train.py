"""Training of every stage: one loop, three recipes.

The classifier learns whole frames as the gate does; the segmenters first learn all classes together, then a copy for
each class alone. Step counts are fixed, never wall time, so that a seed gives the same schedule on every machine, and
the same models on machines of one kind.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from training import networks
from training.dataset import (
    CLASSES,
    CropBatch,
    FrameSet,
    Image,
    StripBatch,
    crop_batches,
    degrade,
    labels,
    strip_batches,
    vary,
)
from training.losses import frame_loss, mask_loss

Batch = TypeVar("Batch")
Scorer = TypeVar("Scorer", networks.CellScorer, networks.Classifier)
Report = Callable[[str], None]

FRAME_WEIGHT = 2.0
"""Weight of the frame's own score beside its cells, in the loss of gate and classifier."""

ELSEWHERE = 0.2
"""Share of a segmenter's crops that are cut from anywhere, most of them without a defect of its class."""

REPORT_STEPS = 50


@dataclass(frozen=True, slots=True)
class Course:
    """How one stage is trained: steps, examples in a step, highest learning rate."""

    steps: int
    batch: int
    rate: float


def fit(
    network: nn.Module,
    batches: Iterator[Batch],
    loss_of: Callable[[Batch], Tensor],
    course: Course,
    report: Report,
) -> None:
    """Train ``network`` in place with AdamW and a one-cycle schedule; ``report`` gets a line every 50 steps."""
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=course.rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, course.rate, course.steps, pct_start=0.15)
    begun, recent = time.monotonic(), 0.0
    for step in range(1, course.steps + 1):
        loss = loss_of(next(batches))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        recent += loss.item()
        if step % REPORT_STEPS == 0 or step == course.steps:
            spent = time.monotonic() - begun
            left = spent / step * (course.steps - step)
            mean = recent / (step % REPORT_STEPS or REPORT_STEPS)
            report(f"step {step}/{course.steps}, loss {mean:.3f}, {left / 60:.1f} min left in this stage")
            recent = 0.0
    network.eval()


def as_input(images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Tensor:
    """uint8 ``[b, h, w]`` to the networks' input, float32 ``[b, 1, h, w]`` in [0, 1]."""
    return torch.from_numpy(images).unsqueeze(1).float() / 255


def train_gate(frames: FrameSet, course: Course, seed: int, report: Report) -> networks.CellScorer:
    """A gate, on degraded frames; clean and defective ones are drawn equally often."""
    defective = labels(frames).any(axis=1)
    chances = np.where(defective, 0.5 / max(1, defective.sum()), 0.5 / max(1, (~defective).sum()))
    return _train_scorer(networks.gate, frames, chances, degrade, course, seed, report, joined=True)


def train_classifier(
    joint: networks.Segmenter, frames: FrameSet, course: Course, seed: int, report: Report
) -> networks.Classifier:
    """A classifier that starts from what ``joint`` sees; classes are drawn evenly, and every fifth frame is clean."""
    present = labels(frames)
    chances = (present / np.maximum(present.sum(axis=0), 1)).sum(axis=1) * 0.8 / CLASSES
    clean = ~present.any(axis=1)
    chances = np.where(clean, 0.2 / max(1, clean.sum()), chances)
    return _train_scorer(lambda: networks.Classifier(joint), frames, chances, vary, course, seed, report, joined=False)


def train_segmenter(frames: FrameSet, course: Course, width: int, seed: int, report: Report) -> networks.Segmenter:
    """A segmenter of all four classes on crops of ``width`` columns, from which those of one class start."""
    torch.manual_seed(seed)
    network = networks.Segmenter(CLASSES)
    every = tuple(range(CLASSES))
    _fit_segmenter(network, frames, every, every, course, width, seed, report)
    return network


def specialise(
    joint: networks.Segmenter, index: int, frames: FrameSet, course: Course, width: int, seed: int, report: Report
) -> networks.Segmenter:
    """The segmenter of one class, ``index`` 0 to 3, trained on from ``joint``.

    As many crops show the other classes as its own. Without them it forgets what ``joint`` knew of the difference, and
    marks the others' defects as its own: several times as many invented regions on generated validation frames.
    """
    torch.manual_seed(seed)
    network = joint.of_class(index)
    others = tuple(other for other in range(CLASSES) if other != index)
    centres = (index,) * len(others) + others
    _fit_segmenter(network, frames, (index,), centres, course, width, seed, report)
    return network


def _train_scorer(
    build: Callable[[], Scorer],
    frames: FrameSet,
    chances: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    alter: Callable[[Image, np.random.Generator], Image],
    course: Course,
    seed: int,
    report: Report,
    *,
    joined: bool,
) -> Scorer:
    torch.manual_seed(seed)
    network = build().to(memory_format=torch.channels_last)

    def loss_of(batch: StripBatch) -> Tensor:
        cover = torch.from_numpy(batch.cover).float() / 255
        if joined:
            cover = cover.amax(dim=1, keepdim=True)
        cells = network.cells(as_input(batch.images))
        return frame_loss(cells, networks.smooth_max(cells), cover, FRAME_WEIGHT)

    batches = strip_batches(frames, chances, course.batch, np.random.default_rng(seed), alter)
    fit(network, batches, loss_of, course, report)
    return network


def _fit_segmenter(
    network: networks.Segmenter,
    frames: FrameSet,
    chosen: tuple[int, ...],
    centres: tuple[int, ...],
    course: Course,
    width: int,
    seed: int,
    report: Report,
) -> None:
    network.to(memory_format=torch.channels_last)

    def loss_of(batch: CropBatch) -> Tensor:
        target = torch.from_numpy(batch.blocks).float().contiguous(memory_format=torch.channels_last)
        return mask_loss(network.blocks(as_input(batch.images)), target, len(chosen))

    rng = np.random.default_rng(seed)
    fit(network, crop_batches(frames, chosen, centres, course.batch, width, ELSEWHERE, rng), loss_of, course, report)
