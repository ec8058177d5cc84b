"""The command that makes the reference cascade from nothing but a seed: ``python -m training.reference --help``.

It generates the frames, trains all stages in two processes of one thread each, exports the graphs and chooses the
thresholds. Two processes of one thread are faster on two cores than one of two threads, do not wait for each other
where the machine is busy, and give the same models whatever the number of cores.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from engines.errors import MillwatchError
from training import calibrate, export, recording, train
from training.dataset import CLASSES, FrameSet, labels
from training.workshop import PROCESSES, REFERENCE, Workshop, single

EXAMPLE = "example: python -m training.reference --output cascades/reference --seed 1"


RECORDING_SEED = 7
"""Of the frames that come with the cascade: engines are compared on them, and the demonstration shows them. Training
draws its seeds from 64 bits and does not meet this one."""

RECORDED_FRAMES, RECORDED_DEFECTIVE = 80, 40


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.reference",
        description="Train the reference cascade on generated strips and export it.",
        epilog=EXAMPLE,
    )
    parser.add_argument("--output", type=Path, required=True, help="cascade folder to write")
    parser.add_argument("--work", type=Path, default=Path("build/train-reference"), help="frames and checkpoints")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--resume", action="store_true", help="go on with what the work folder holds")
    options = parser.parse_args(arguments)
    try:
        make(Workshop(options.work, REFERENCE, options.seed), options.output, resume=options.resume)
    except MillwatchError as error:
        print(f"train-reference: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def make(workshop: Workshop, output: Path, *, resume: bool) -> None:
    """Train what is missing in the workshop and write the cascade to ``output``."""
    begun = time.monotonic()
    workshop.open(resume)
    workshop.frames("training", workshop.plan.training_frames)
    workshop.frames("validation", workshop.plan.validation_frames)
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool:
        gate = pool.submit(train_gate, workshop)
        pool.submit(train_joint, workshop).result()
        rest = [pool.submit(train_classifier, workshop)]
        rest += [pool.submit(train_single, workshop, index) for index in range(CLASSES)]
        for job in [gate, *rest]:
            job.result()
        workshop.report(f"all stages are trained, {(time.monotonic() - begun) / 60:.0f} min after the start")
        write_cascade(workshop, output, pool)
    workshop.report(f"the cascade is in {output}, {(time.monotonic() - begun) / 60:.0f} min after the start")


def train_gate(workshop: Workshop) -> None:
    """The gate, from nothing."""
    if not workshop.has("gate"):
        report = partial(_report_stage, workshop, "gate")
        workshop.save("gate", train.train_gate(_training_frames(workshop), workshop.plan.gate, workshop.seed, report))


def train_joint(workshop: Workshop) -> None:
    """The segmenter of all classes, from which the classifier and the segmenter of each class start."""
    if not workshop.has("joint"):
        plan, frames = workshop.plan, _training_frames(workshop)
        report = partial(_report_stage, workshop, "joint")
        workshop.save("joint", train.train_segmenter(frames, plan.joint, plan.crop_width, workshop.seed, report))


def train_classifier(workshop: Workshop) -> None:
    """The classifier, from the joint segmenter."""
    if not workshop.has("classifier"):
        frames, joint = _training_frames(workshop), workshop.joint()
        report = partial(_report_stage, workshop, "classifier")
        network = train.train_classifier(joint, frames, workshop.plan.classifier, workshop.seed, report)
        workshop.save("classifier", network)


def train_single(workshop: Workshop, index: int) -> None:
    """The segmenter of class ``index``, 0 to 3, from the joint one."""
    if not workshop.has(single(index)):
        plan, frames, joint = workshop.plan, _training_frames(workshop), workshop.joint()
        report = partial(_report_stage, workshop, single(index))
        seed = workshop.seed + 1 + index
        network = train.specialise(joint, index, frames, plan.single, plan.crop_width, seed, report)
        workshop.save(single(index), network)


def write_cascade(workshop: Workshop, output: Path, pool: ProcessPoolExecutor) -> None:
    """Export every stage, and choose the thresholds on the validation frames."""
    _one_thread()
    gate, classifier = workshop.gate(), workshop.classifier()
    output.mkdir(parents=True, exist_ok=True)
    export.export_gate(gate, output / "gate.onnx")
    export.export_classifier(classifier, output / "classifier.onnx")
    for index in range(CLASSES):
        export.export_segmenter(workshop.segmenter(index), output / f"{single(index)}.onnx")
    frames = workshop.frames("validation", workshop.plan.validation_frames)
    gate_scores, scores = calibrate.class_scores(gate, classifier, frames)
    defective = np.asarray(labels(frames).any(axis=1), np.bool_)
    threshold = calibrate.gate_threshold(gate_scores, defective)
    passed = gate_scores >= threshold
    workshop.report(
        f"gate threshold {threshold:.3f}: {(~passed & defective).sum()} of {defective.sum()} defective frames missed, "
        f"{(passed & ~defective).sum()} of {(~defective).sum()} clean frames let through"
    )
    jobs = [pool.submit(_choose, workshop, index, passed, scores[:, index]) for index in range(CLASSES)]
    settings = [job.result() for job in jobs]
    provenance: dict[str, str | int] = {
        "made_by": "Millwatch, training/reference.py",
        "command": f"python -m training.reference --output cascades/reference --seed {workshop.seed}",
        "seed": workshop.seed,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "data": f"{workshop.plan.training_frames} procedurally generated strips; no real image was used",
        "licence": "Apache-2.0",
    }
    recording.write(output, RECORDING_SEED, RECORDED_FRAMES, RECORDED_DEFECTIVE)
    export.write_definition(output, threshold, settings, provenance)


def _choose(
    workshop: Workshop, index: int, passed: NDArray[np.bool_], scores: NDArray[np.float32]
) -> export.ClassSettings:
    _one_thread()
    frames = workshop.frames("validation", workshop.plan.validation_frames)
    settings, result = calibrate.class_settings(index, workshop.segmenter(index), frames, passed, scores)
    workshop.report(f"class {index + 1}: {settings} gives {result}")
    return settings


def _training_frames(workshop: Workshop) -> FrameSet:
    _one_thread()
    return workshop.frames("training", workshop.plan.training_frames)


def _one_thread() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def _report_stage(workshop: Workshop, stage: str, line: str) -> None:
    workshop.report(f"{stage}: {line}")


if __name__ == "__main__":
    sys.exit(main())
