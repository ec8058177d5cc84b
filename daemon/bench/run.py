"""A whole bench run: the parts in turns, so that whatever else the machine does meets all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Literal

from daemon.allocator import give_large_blocks_back
from daemon.bench.bare import inspect_in_pipeline, inspect_one_by_one
from daemon.bench.brokers import BrokerKind, broker_here, open_broker
from daemon.bench.machine import cpu_model
from daemon.bench.result import BenchResult, CpuPerFrame, Measured, Percentiles
from daemon.bench.stream import Options, measure_end_to_end, measure_latency, open_lane
from daemon.bench.workload import Workload, as_read
from daemon.frames import Frame
from daemon.inspector import open_inspector
from daemon.settings import Settings
from daemon.wording import counted
from engines.cascade import Cascade
from engines.cores import core_count
from engines.manifest import MANIFEST_FILE, Manifest, engines_folder

Part = Literal["naive", "end-to-end", "latency"]
PARTS: tuple[Part, ...] = ("naive", "end-to-end", "latency")
"""What may be left out; the cascade alone is always measured."""

NAIVE_SHARE = 4
"""One frame in so many is inspected one by one, with each number of threads."""

LATENCY_SHARE = 2
"""The latency is measured on one frame in so many: they come at half the speed."""

WARM_UP_SHARE = 10
"""The latency of one frame in so many, the first ones, does not count: clients and caches are still waking up."""

BROKER_WARM_UPS = 2
"""Rounds through the broker that do not count: Java compiles what is busy only after thousands of frames, and until
then the broker takes the service's cores."""

BYTES_PER_MB = 1e6

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure: ``frames`` for each speed, spread over ``rounds``, without the parts in ``skip``.

    ``broker`` is one of the bench's own, or None for the configured one.
    """

    options: Options
    workload: Workload
    frames: int
    rounds: int
    broker: BrokerKind | None
    skip: Collection[Part]


@dataclass(slots=True)
class _Rounds:
    """What the rounds gave so far."""

    bare: list[Measured] = field(default_factory=list)
    end_to_end: list[Measured] = field(default_factory=list)
    one_thread: list[Measured] = field(default_factory=list)
    all_threads: list[Measured] = field(default_factory=list)
    resident_bytes: int = 0


def run_bench(plan: Plan, say: Say) -> BenchResult:
    """Measure; ``say`` is told of the progress. Raises MillwatchError where a part cannot be measured."""
    # As the service does, with which this is compared.
    give_large_blocks_back()
    settings = plan.options.settings()
    latencies: list[float] = []
    with ExitStack() as resources:
        say("opening the engines")
        cascade = resources.enter_context(open_inspector(settings))
        bootstrap = settings.kafka.bootstrap
        if plan.broker is not None and not {"end-to-end", "latency"} <= set(plan.skip):
            say(f"starting a broker: {broker_here(plan.broker)}")
            bootstrap = resources.enter_context(open_broker(plan.broker))
        rounds = _rounds(plan, settings, cascade, bootstrap, say)
        fps = Measured.total(rounds.end_to_end or rounds.bare).fps
        if "latency" not in plan.skip:
            frames = plan.workload.frames(plan.frames // LATENCY_SHARE)
            say(f"latency: {counted(len(frames), 'frame')} at {fps / 2:.1f} a second")
            with open_lane(plan.options, bootstrap) as lane:
                latencies, resident_bytes = measure_latency(lane, frames, fps / 2, len(frames) // WARM_UP_SHARE)
            rounds.resident_bytes = max(rounds.resident_bytes, resident_bytes)
            say(f"latency: {counted(len(latencies), 'event')} of defective frames")
        return _result(plan, settings, cascade, rounds, latencies)


def _rounds(plan: Plan, settings: Settings, cascade: Cascade, bootstrap: str, say: Say) -> _Rounds:
    rounds = _Rounds()
    recorded = plan.workload.frames(plan.frames)
    frames = as_read(recorded)

    def bare(part: slice) -> None:
        rounds.bare.append(inspect_in_pipeline(settings, cascade, frames[part]))
        say(f"  cascade {_told(rounds.bare[-1])}")

    def end_to_end(part: slice) -> None:
        with open_lane(plan.options, bootstrap) as lane:
            measured, resident_bytes = measure_end_to_end(lane, recorded[part])
        rounds.end_to_end.append(measured)
        rounds.resident_bytes = max(rounds.resident_bytes, resident_bytes)
        say(f"  end to end {_told(measured)}")

    def naive(part: slice) -> None:
        some = frames[part][: max(1, (part.stop - part.start) // NAIVE_SHARE)]
        rounds.one_thread.append(_one_by_one(plan.options, some, threads=1))
        rounds.all_threads.append(_one_by_one(plan.options, some, threads=core_count()))
        say(f"  one by one {rounds.one_thread[-1].fps:.1f} fps (1 thread), {rounds.all_threads[-1].fps:.1f} (all)")

    measures = [bare]
    if "end-to-end" not in plan.skip:
        measures.append(end_to_end)
        say("warming the broker up, not counted")
        for _ in range(BROKER_WARM_UPS):
            end_to_end(slice(0, len(frames) // plan.rounds))
        rounds.end_to_end.clear()
    if "naive" not in plan.skip:
        measures.append(naive)
    for number in range(plan.rounds):
        part = slice(number * len(frames) // plan.rounds, (number + 1) * len(frames) // plan.rounds)
        say(f"round {number + 1} of {plan.rounds}")
        # Every other round the other way about: a machine that grows slower or faster favours nobody.
        for measure in measures if number % 2 == 0 else reversed(measures):
            measure(part)
    return rounds


def _one_by_one(options: Options, frames: Sequence[Frame], threads: int) -> Measured:
    settings = options.settings("engine.slots=1", "batch.max_frames=1")
    with open_inspector(settings, threads=threads) as cascade:
        return inspect_one_by_one(settings, cascade, frames)


def _told(measured: Measured) -> str:
    return f"{measured.fps:.1f} fps, {measured.cpu_ms_per_frame:.2f} CPU-ms a frame"


def _result(plan: Plan, settings: Settings, cascade: Cascade, rounds: _Rounds, latencies: list[float]) -> BenchResult:
    bare = Measured.total(rounds.bare)
    end_to_end = Measured.total(rounds.end_to_end) if rounds.end_to_end else None
    naive = [Measured.total(parts).fps for parts in (rounds.one_thread, rounds.all_threads) if parts]
    return BenchResult(
        frames=plan.frames,
        defect_rate=plan.workload.defect_rate,
        cores=core_count(),
        cpu=cpu_model(),
        backend=cascade.identity.backend,
        precision=_precision(settings, cascade),
        cascade_fps=bare.fps,
        end_to_end_fps=end_to_end.fps if end_to_end else None,
        ratio=end_to_end.fps / bare.fps if end_to_end else None,
        naive_fps=max(naive, default=None),
        latency_ms=Percentiles.of(latencies) if latencies else None,
        cpu_ms_per_frame=CpuPerFrame(
            cascade=bare.cpu_ms_per_frame, end_to_end=end_to_end.cpu_ms_per_frame if end_to_end else None
        ),
        rss_mb=rounds.resident_bytes / BYTES_PER_MB or None,
    )


def _precision(settings: Settings, cascade: Cascade) -> str:
    """The precisions of the engines, as their manifest has them."""
    folder = engines_folder(settings.engine.directory, cascade.definition, cascade.identity.backend)
    manifest = Manifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
    return ", ".join(sorted(set(manifest.precisions.values())))
