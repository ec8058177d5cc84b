"""``python -m benchmarks.peers``: the bare cascade against ONNX Runtime, and against what the cores allow.

All take turns in one process on the same frames. Prints one JSON object; the table goes to standard error.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from benchmarks.core_bound import PartTimes, measure_parts
from benchmarks.notebook import Notebook
from daemon.bench.bare import inspect_in_pipeline, inspect_one_by_one
from daemon.bench.machine import cpu_model
from daemon.bench.result import Measured, rounded
from daemon.bench.stream import Options
from daemon.bench.workload import as_read, read_workload
from daemon.frames import Frame
from daemon.inspector import cascade_overrides, open_inspector
from daemon.settings import Settings
from engines.cores import core_count
from engines.definition import load_definition
from engines.recording import RecordedFrame
from engines.settings import effective_settings

EVERYTHING_SHARE = 8
"""One frame in so many is given to the peer that runs every model on every frame."""


@dataclass(slots=True)
class Contender:
    """One way of inspecting, and what it did in each round. ``group`` is what it stands for in the result."""

    group: str
    name: str
    inspect: Callable[[], Measured]
    rounds: list[Measured] = field(default_factory=list)

    @property
    def total(self) -> Measured:
        """All rounds together."""
        return Measured.total(self.rounds)


@dataclass(slots=True)
class Bound:
    """What the cores allow: as many frames at once as there are cores, and no time for anything but the parts."""

    settings: Settings
    frames: Sequence[Frame]
    parts: list[PartTimes] = field(default_factory=list)

    def inspect(self) -> Measured:
        """As if the frames had been inspected at that rate."""
        self.parts.append(measure_parts(self.settings, self.frames))
        seconds = self.parts[-1].total_s
        return Measured(len(self.frames), seconds / core_count(), seconds)

    def table(self) -> dict[str, dict[str, float]]:
        """For each part the milliseconds of one run, and its runs per frame."""
        frames = len(self.frames) * len(self.parts)
        seconds: dict[str, float] = {}
        runs: dict[str, int] = {}
        for times in self.parts:
            for part in times.runs:
                seconds[part] = seconds.get(part, 0.0) + times.seconds[part]
                runs[part] = runs.get(part, 0) + times.runs[part]
        return {part: {"ms": 1000 * seconds[part] / runs[part], "share": runs[part] / frames} for part in runs}


@click.command()
@click.option("--config", type=click.Path(path_type=Path), help="Configuration file of the service.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Set one key of the configuration.")
@click.option("--frames", type=click.IntRange(min=40), default=400, show_default=True, help="Frames in each round.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="How often all take turns.")
@click.option("--defect-rate", type=click.FloatRange(0, 1), default=0.05, show_default=True)
def main(config: Path | None, overrides: tuple[str, ...], frames: int, rounds: int, defect_rate: float) -> None:
    """Compare the bare cascade with its peers."""
    options = Options(config, overrides)
    settings = options.settings()
    folder = settings.cascade
    recorded = read_workload(folder / "recording.parquet", folder / "truth.csv", defect_rate).frames(frames)
    # Builds the engines where they are missing, before any clock runs.
    open_inspector(settings).close()
    bound = Bound(settings, as_read(recorded))
    contenders = [*_ours(options, bound.frames), *_notebooks(settings, recorded)]
    contenders.append(Contender("bound", f"{core_count()} cores / time of one thread", bound.inspect))
    for number in range(rounds):
        for contender in contenders:
            contender.rounds.append(contender.inspect())
            told = contender.rounds[-1]
            click.echo(f"round {number + 1} of {rounds}: {contender.name}: {told.fps:.1f} fps", err=True)
    best = {group: max(c.total.fps for c in contenders if c.group == group) for group in {c.group for c in contenders}}
    Console(stderr=True).print(_table(contenders, best["bare"]))
    result = {
        "frames": frames * rounds,
        "defect_rate": defect_rate,
        "cores": core_count(),
        "cpu": cpu_model(),
        "fps": best,
        "bare_over": {group: best["bare"] / fps for group, fps in best.items() if group != "bare"},
        "parts": bound.table(),
    }
    click.echo(json.dumps(rounded(result)))


def _ours(options: Options, frames: Sequence[Frame]) -> list[Contender]:
    settings = options.settings()
    alone = options.settings("engine.slots=1", "batch.max_frames=1")

    def in_pipeline() -> Measured:
        with open_inspector(settings) as cascade:
            return inspect_in_pipeline(settings, cascade, frames)

    def one_by_one(threads: int) -> Measured:
        with open_inspector(alone, threads=threads) as cascade:
            return inspect_one_by_one(alone, cascade, frames)

    return [
        Contender("bare", "Millwatch, bare cascade", in_pipeline),
        *(
            Contender(
                "naive", f"Millwatch's engines, one frame at a time, {_threads(threads)}", partial(one_by_one, threads)
            )
            for threads in _thread_counts()
        ),
    ]


def _notebooks(settings: Settings, recorded: Sequence[RecordedFrame]) -> list[Contender]:
    definition = load_definition(settings.cascade)
    thresholds = effective_settings(definition, cascade_overrides(settings))
    values = [frame.value or b"" for frame in recorded]

    def inspect(threads: int, part: Sequence[bytes], conditional: bool) -> Measured:
        return Notebook(definition, thresholds, threads, conditional=conditional).inspect(part)

    few = values[: max(1, len(values) // EVERYTHING_SHARE)]
    contenders = []
    for group, name, part, conditional in (
        ("onnx_runtime", "ONNX Runtime, one frame at a time", values, True),
        ("onnx_runtime_everything", "ONNX Runtime, every model on every frame", few, False),
    ):
        contenders += [
            Contender(group, f"{name}, {_threads(threads)}", partial(inspect, threads, part, conditional))
            for threads in _thread_counts()
        ]
    return contenders


def _thread_counts() -> list[int]:
    return sorted({1, core_count()})


def _threads(count: int) -> str:
    return "one thread" if count == 1 else f"{count} threads"


def _table(contenders: Sequence[Contender], bare_fps: float) -> Table:
    table = Table("", "frames/s", "CPU-ms a frame", "bare cascade is")
    for contender in contenders:
        total = contender.total
        ratio = f"{bare_fps / total.fps:.2f} x"
        table.add_row(contender.name, f"{total.fps:.1f}", f"{total.cpu_ms_per_frame:.2f}", ratio)
    return table


if __name__ == "__main__":
    main()
