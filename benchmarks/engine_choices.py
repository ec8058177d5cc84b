"""``python -m benchmarks.engine_choices``: what the OpenVINO backend's choices cost and gain on this machine.

For every kind of stage the processor time of one thread per frame, by convolution kernels and batch size, beside ONNX
Runtime's; then how long built engines take to open and the memory that they hold; last the frames per second of the
bare cascade by its number of slots, which take turns. Prints tables.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import click
import numpy as np
import onnxruntime as ort
from rich.console import Console
from rich.table import Table

from daemon.bench.bare import inspect_in_pipeline
from daemon.bench.machine import resident_bytes
from daemon.bench.stream import Options
from daemon.bench.workload import as_read, read_workload
from daemon.inspector import open_inspector
from engines.cascade import Cascade, open_cascade
from engines.cores import core_count
from engines.definition import CascadeDefinition, Stage, load_definition
from engines.openvino.compiler import DEVICE, SPARE_SLOTS
from engines.openvino.core import shared_core
from engines.openvino.kernels import BLOCKED_KERNELS, TIMED_RUNS, preferring, processor_time
from engines.openvino.models import read_stage
from engines.settings import CascadeOverrides, ClassOverrides

DEFECT_RATE = 0.05

ONE_THREAD = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1}


@click.command()
@click.option("--cascade", type=click.Path(path_type=Path), default=Path("cascades/reference"), show_default=True)
@click.option("--directory", type=click.Path(path_type=Path), default=Path("engines/compiled"), show_default=True)
@click.option("--batch-size", "batch_sizes", type=int, multiple=True, default=(1, 2, 4, 8), show_default=True)
@click.option("--slots", type=click.IntRange(min=1), multiple=True, help="Slots to compare [none, 1 and 2 spare ones].")
@click.option("--turns", type=click.IntRange(min=1), default=20, show_default=True, help="Turns of each number.")
@click.option("--frames", type=click.IntRange(min=20), default=100, show_default=True, help="Frames in a turn.")
def main(
    cascade: Path, directory: Path, batch_sizes: tuple[int, ...], slots: tuple[int, ...], turns: int, frames: int
) -> None:
    """Measure kernels, batch sizes, opening, memory and slots."""
    definition = load_definition(cascade)
    console = Console()
    console.print(_kernels_and_batches(definition, batch_sizes))
    console.print(_opening(cascade, directory, definition))
    counts = slots or tuple(core_count() + spare for spare in range(SPARE_SLOTS + 1))
    console.print(_slots_in_turn(cascade, directory, counts, turns, frames))


def _kernels_and_batches(definition: CascadeDefinition, batch_sizes: Sequence[int]) -> Table:
    table = Table(title="processor time of one thread, ms a frame")
    for column in ("stage", "OpenVINO kernels", *(f"batch {size}" for size in batch_sizes), "ONNX Runtime"):
        table.add_column(column)
    for stage in definition.stages[:3]:
        for name, figures in _stage_figures(stage, definition, batch_sizes):
            onnx = _onnx_runtime_ms(stage, definition) if name == "default" else None
            table.add_row(stage.key, name, *(f"{ms:.2f}" for ms in figures), "" if onnx is None else f"{onnx:.2f}")
    return table


def _opening(cascade: Path, directory: Path, definition: CascadeDefinition) -> str:
    # Builds the engines where they are missing, before the clock runs.
    open_cascade(cascade, directory=directory).close()
    before, started = resident_bytes(os.getpid()) or 0, time.perf_counter()
    opened = _open_wide(cascade, directory)
    seconds = time.perf_counter() - started
    with opened:
        frame = np.zeros((definition.input.height, definition.input.width), np.uint8)
        for _ in range(2 * opened.slots):
            opened.inspect([frame] * opened.max_frames)
        held = ((resident_bytes(os.getpid()) or 0) - before) / 1e6
        return f"opened in {seconds:.2f} s; {held:.0f} MB for {opened.slots} slots with every stage at work"


def _slots_in_turn(cascade: Path, directory: Path, counts: Sequence[int], turns: int, frames: int) -> Table:
    """Frames per second of the bare cascade with each number of slots.

    They take turns because a machine's speed drifts: a turn is short, and its neighbours are the other numbers' turns.
    """
    workload = read_workload(cascade / "recording.parquet", cascade / "truth.csv", DEFECT_RATE)
    given = as_read(workload.frames(frames))
    options = Options(None, (f"cascade={cascade}", f"engine.directory={directory}"))
    fps: dict[int, list[float]] = {count: [] for count in counts}
    with ExitStack() as opened:
        settings = {count: options.settings(f"engine.slots={count}") for count in fps}
        cascades = {count: opened.enter_context(open_inspector(settings[count])) for count in fps}
        for _ in range(turns):
            for count, measured in fps.items():
                measured.append(inspect_in_pipeline(settings[count], cascades[count], given).fps)
    table = Table("slots", "frames/s, median", "least", "most", title=f"bare cascade, {turns} turns of {frames} frames")
    for count, measured in fps.items():
        table.add_row(str(count), *(f"{of(measured):.1f}" for of in (statistics.median, min, max)))
    return table


def _stage_figures(
    stage: Stage, definition: CascadeDefinition, batch_sizes: Sequence[int]
) -> Iterator[tuple[str, list[float]]]:
    core = shared_core()
    for name in ("default", "blocked"):
        figures = []
        for size in batch_sizes:
            model = read_stage(core, stage, definition, size)
            if name == "blocked":
                model = preferring(BLOCKED_KERNELS, core, model)
            figures.append(1000 * processor_time(core.compile_model(model, DEVICE, ONE_THREAD)) / size)
        yield name, figures


def _onnx_runtime_ms(stage: Stage, definition: CascadeDefinition) -> float:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(stage.model, options, providers=["CPUExecutionProvider"])
    frames = np.zeros((1, definition.input.height, definition.input.width), np.uint8)
    inputs = {"frames": frames, "index": np.zeros(1, np.int64), "threshold": np.full(1, 0.5, np.float32)}
    asked = {port.name: inputs[port.name] for port in session.get_inputs()}
    times = []
    for _ in range(TIMED_RUNS):
        started = time.process_time()
        session.run(None, asked)
        times.append(time.process_time() - started)
    return 1000 * min(times)


def _open_wide(cascade: Path, directory: Path) -> Cascade:
    """The cascade with thresholds at which every frame goes through every stage."""
    classes = {item.id: ClassOverrides(threshold=0.0) for item in load_definition(cascade).classes}
    return open_cascade(cascade, directory=directory, overrides=CascadeOverrides(gate_threshold=0.0, classes=classes))


if __name__ == "__main__":
    main()
