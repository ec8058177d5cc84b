"""The parts that look at single stages: the device, the build, agreement, and speed by batch size."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import numpy as np

from engines.agreement import Agreement
from engines.backend import EngineFile, Slot
from engines.build import build
from engines.definition import CascadeDefinition, Stage, load_definition
from engines.errors import EngineError, InferenceError
from engines.images import Frame
from engines.reference import ReferenceAnswers
from engines.verification.opening import Bench, OpenCompiler, compiler_of
from engines.verification.report import Finding, Plan, Row

PACKAGES: Final = ("tensorrt", "pycuda", "cuda-bindings", "nvidia-nvimgcodec-cu13", "openvino", "numpy")

WARM_UPS: Final = 3
"""Runs before the clock starts: a first one loads kernels."""

LEAST_RUNS: Final = 10


def find_device(plan: Plan, open_compiler: OpenCompiler = compiler_of) -> Finding:
    """The device, its driver, and the versions of what talks to it."""
    compiler = open_compiler(plan)
    device = compiler.device
    figures: list[Row] = [
        {"what": "device", "value": device.name},
        {"what": "capabilities", "value": device.capabilities},
        {"what": device.backend, "value": device.version},
        {"what": "batch sizes", "value": ", ".join(map(str, compiler.batch_sizes(plan.max_frames)))},
        {"what": "slots", "value": plan.slots or compiler.default_slots},
    ]
    for package in PACKAGES:
        try:
            figures.append({"what": f"package {package}", "value": version(package)})
        except PackageNotFoundError:
            figures.append({"what": f"package {package}", "value": None})
    return Finding(f"{device.name}, {device.backend} {device.version}", figures)


def build_engines(plan: Plan, open_compiler: OpenCompiler = compiler_of) -> Finding:
    """Every engine of the cascade, built where it does not fit already; agreement is part of building."""
    compiler = open_compiler(plan)
    definition = load_definition(plan.cascade)
    sizes = compiler.batch_sizes(plan.max_frames)
    report = build(definition, compiler, plan.directory, sizes, bit_depth=plan.bit_depth)
    refused = {found.stage: found.refused for found in report.manifest.stages}
    figures = [
        {
            "stage": engine.stage,
            "batch": engine.batch_size,
            "precision": engine.precision,
            "megabytes": engine.bytes / 1e6,
            "build_s": engine.seconds,
            "refused": "; ".join(f"{found.precision}: {found.reason}" for found in refused[engine.stage]) or None,
        }
        for engine in report.engines
    ]
    state = "up to date" if report.up_to_date else "built"
    return Finding(f"{len(report.manifest.stages)} stages {state} in {report.folder}", figures)


def compare_engines(bench: Bench) -> Finding:
    """The built engines against the reference, at every batch size, opened as the service opens them."""
    frames = bench.frames()
    figures: list[Row] = []
    problems = []
    for stage in bench.definition.stages:
        engines = [engine for engine in bench.engines if engine.stage == stage.key]
        try:
            agreements = _agreements(bench, stage, engines, frames.frames)
        except (EngineError, InferenceError) as error:
            problems.append(f"{stage.key}: {error}")
            continue
        for size, agreement in agreements.items():
            problem = agreement.problem()
            figures.append(
                {
                    "stage": stage.key,
                    "batch": size,
                    "precision": engines[0].precision,
                    "score_off_by": agreement.max_score_difference,
                    "verdicts_flipped": agreement.verdicts_flipped,
                    "mask_flipped_share": agreement.max_flipped_share,
                    "least_dice": agreement.min_dice,
                    "problem": problem,
                }
            )
            if problem is not None:
                problems.append(f"{stage.key} at batch size {size}: {problem}")
    return Finding(f"{len(frames.frames)} frames, {frames.defective} of them defective", figures, problems)


def _agreements(
    bench: Bench, stage: Stage, engines: Sequence[EngineFile], frames: Sequence[Frame]
) -> dict[int, Agreement]:
    reference = ReferenceAnswers(stage, bench.definition, frames)
    sizes = sorted({size for engine in engines for size in engine.batch_sizes})
    runtime = bench.compiler.open(bench.definition, engines, slots=1, max_frames=max(sizes))
    try:
        return {size: reference.compare(runtime.slots[0], size) for size in sizes}
    finally:
        runtime.close()


def time_stages(bench: Bench) -> Finding:
    """How long a run of every stage takes at every batch size, copies to and from the device included."""
    frame = bench.blank()
    figures: list[Row] = []
    with bench.runtime(slots=1, max_frames=max(bench.batch_sizes)) as runtime, runtime.slots[0] as slot:
        for stage in bench.definition.stages:
            for size in bench.batch_sizes:
                slot.load([frame] * size)
                milliseconds = _timed(_run_of(slot, stage, bench.definition, size), bench.plan.seconds)
                p50, p95 = np.percentile(milliseconds, (50, 95)).tolist()
                figures.append(
                    {
                        "stage": stage.key,
                        "batch": size,
                        "runs": len(milliseconds),
                        "p50_ms": p50,
                        "p95_ms": p95,
                        "frames_per_s": 1000 * size / float(np.mean(milliseconds)),
                    }
                )
    return Finding(f"{len(bench.definition.stages)} stages at {len(bench.batch_sizes)} batch sizes", figures)


def _run_of(slot: Slot, stage: Stage, definition: CascadeDefinition, size: int) -> Callable[[], object]:
    """One run of a stage on the frames that were loaded, to the last of its masks."""
    every = np.arange(size, dtype=np.int64)
    if stage.kind == "gate":
        return lambda: slot.gate(every)
    if stage.class_number is None:
        return lambda: slot.classify(every)
    number, threshold = stage.class_number, definition.classes[stage.class_number].mask_threshold
    return lambda: [None for _ in slot.segment(number, every, threshold)]


def _timed(run: Callable[[], object], seconds: float) -> list[float]:
    """Milliseconds of runs, one after the other, for so many seconds."""
    for _ in range(WARM_UPS):
        run()
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < LEAST_RUNS or time.perf_counter() < until:
        started = time.perf_counter()
        run()
        times.append(1000 * (time.perf_counter() - started))
    return times
