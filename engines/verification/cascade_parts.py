"""The parts that look at the cascade as a whole: its speed, its slots beside each other, what opening leaves behind."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from engines.cascade import Cascade
from engines.images import Frame
from engines.results import Inspection
from engines.verification.opening import Bench
from engines.verification.report import Finding, Row

DEFECT_RATES: Final = (0.05, 0.5)

MOST_LEFT_BYTES: Final = 8_000_000
"""What may be missing after the last opening that was not after the first: allocators round, drivers keep caches."""

MemoryInUse = Callable[[], int]


def run_cascade(bench: Bench) -> Finding:
    """Frames a second from decoded frames to run lengths, every slot kept at work, at both defect rates."""
    figures: list[Row] = []
    with bench.cascade() as cascade:
        for rate in DEFECT_RATES:
            frames = _mixed(bench, rate)
            fps, defective = _speed(cascade, frames, bench.plan.seconds, cascade.slots)
            figures.append({"defective": rate, "found_defective": defective, "frames_per_s": fps})
        slots = cascade.slots
    told = " and ".join(f"{row['frames_per_s']:.0f} frames/s at {row['defective']:.0%}" for row in figures)
    return Finding(f"{told} defective, {slots} slots of {bench.plan.max_frames} frames", figures)


def run_slots(bench: Bench) -> Finding:
    """Slots beside each other find what one alone finds, and how much they gain."""
    frames = _mixed(bench, DEFECT_RATES[1])
    batches = _batches(frames, bench.plan.max_frames)
    figures: list[Row] = []
    problems = []
    with bench.cascade() as cascade:
        alone = [cascade.inspect(batch) for batch in batches]
        for number, found in enumerate(_beside_each_other(cascade, batches * cascade.slots, cascade.slots)):
            if _verdicts(found) != _verdicts(alone[number % len(batches)]):
                problems.append(f"batch {number}: slots beside each other find something else than one alone")
                break
        for threads in sorted({1, cascade.slots}):
            fps, _ = _speed(cascade, frames, bench.plan.seconds, threads)
            figures.append({"slots_at_work": threads, "frames_per_s": fps})
    gain = float(figures[-1]["frames_per_s"] or 0) / float(figures[0]["frames_per_s"] or math.inf)
    return Finding(f"{figures[-1]['slots_at_work']} slots are {gain:.2f} times as fast as one", figures, problems)


def open_again_and_again(bench: Bench, memory_in_use: MemoryInUse) -> Finding:
    """Memory in use after the first opening and after the last: what is opened and closed must leave nothing."""
    figures: list[Row] = []
    frames = bench.frames().frames[: bench.plan.max_frames]
    for number in range(bench.plan.opens + 1):
        with bench.cascade() as cascade:
            cascade.inspect(frames)
            opened = memory_in_use()
        figures.append({"opening": number, "open_bytes": opened, "closed_bytes": memory_in_use()})
    left = int(figures[-1]["closed_bytes"] or 0) - int(figures[0]["closed_bytes"] or 0)
    problems = []
    if left > MOST_LEFT_BYTES:
        problems.append(f"{bench.plan.opens} openings left {left} bytes behind, allowed are {MOST_LEFT_BYTES}")
    return Finding(f"{left / 1e6:+.1f} MB after {bench.plan.opens} openings", figures, problems)


def _mixed(bench: Bench, rate: float) -> list[Frame]:
    """Frames of which ``rate`` are defective, evenly among the clean ones: a hundred, or as many whole batches."""
    found = bench.frames()
    defective, clean = found.frames[: found.defective], found.frames[found.defective :] or found.frames
    size = bench.plan.max_frames
    count = math.ceil(100 / size) * size
    mixed: list[Frame] = []
    carried = 0
    for number in range(count):
        if math.floor((number + 1) * rate) > carried:
            mixed.append(defective[carried % len(defective)])
            carried += 1
        else:
            mixed.append(clean[number % len(clean)])
    return mixed


def _batches(frames: Sequence[Frame], size: int) -> list[Sequence[Frame]]:
    return [frames[start : start + size] for start in range(0, len(frames), size)]


def _speed(cascade: Cascade, frames: Sequence[Frame], seconds: float, threads: int) -> tuple[float, int]:
    """Frames a second of so many threads, in whole rounds through the frames, and the defective ones of a round."""
    batches = _batches(frames, cascade.max_frames)
    first = _beside_each_other(cascade, batches, threads)
    rounds, started = 0, time.perf_counter()
    while not rounds or time.perf_counter() - started < seconds:
        _beside_each_other(cascade, batches, threads)
        rounds += 1
    took = time.perf_counter() - started
    defective = sum(bool(inspection.defects) for found in first for inspection in found)
    return rounds * len(frames) / took, defective


def _beside_each_other(cascade: Cascade, batches: Sequence[Sequence[Frame]], threads: int) -> list[list[Inspection]]:
    """The inspections of all batches, which so many threads take in turn; raises the first error of any of them."""
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(len(batches)):
        waiting.put(number)
    found: list[list[Inspection]] = [[] for _ in batches]
    errors: list[BaseException] = []

    def work() -> None:
        while not errors:
            try:
                number = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                found[number] = cascade.inspect(batches[number])
            except BaseException as error:  # noqa: BLE001 - raised again by whoever started this thread
                errors.append(error)

    workers = [threading.Thread(target=work, name=f"verify-slot-{number}") for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if errors:
        raise errors[0]
    return found


def _verdicts(found: Sequence[Inspection]) -> list[tuple[str, ...]]:
    """What must be the same whatever runs beside it: every mask of every frame."""
    return [tuple(f"{defect.class_id}:{defect.rle}" for defect in inspection.defects) for inspection in found]
