"""``python -m benchmarks.gpu_speed_model``: how fast the cascade can be on a GPU, on paper, and what feeds it.

Nothing here runs on a GPU. Operations and bytes are counted from the ONNX graphs (:mod:`benchmarks.graph_work`), the
least time of each kernel follows from a data sheet (:mod:`benchmarks.gpu_devices`), and how many frames reach which
stage, and what decoding and handing over cost, is measured on this machine's processor. Prints Markdown;
docs/gpu-speed.md says how to read it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
import onnx

from benchmarks.core_bound import measure_parts
from benchmarks.gpu_devices import DEVICES, Device, stage_floor_s
from benchmarks.graph_work import StageWork, count_stage
from benchmarks.idle_device import measure_decoding, measure_idle_device, measure_masks
from daemon.bench.machine import cpu_model
from daemon.bench.stream import Options
from daemon.bench.workload import as_read, read_workload
from daemon.frames import Frame
from daemon.inspector import open_inspector
from daemon.settings import Settings
from engines.backend import plan_chunks
from engines.definition import CascadeDefinition, load_definition
from engines.tensorrt.compiler import batch_sizes

DEFECT_RATES: Final = (0.05, 0.5)

EXPECTED_SHARE: Final = (0.25, 0.5)
"""How much of a floor's speed an engine is taken to reach. An assumption: kernels of small layers leave most of a GPU
idle, and peaks are reached by large products only. docs/gpu-speed.md has the one published figure that it rests on."""

STREAM_CPU_MS: Final = 0.4
"""Processor time that Kafka costs the service for each frame: ``cpu_ms_per_frame`` of ``millwatch bench``, end to end
less cascade (docs/benchmarks.md, Intel Xeon with AMX, 2026-11-25)."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Of how many frames each stage works, by its key, from 0 to 1."""

    defect_rate: float
    stages: Mapping[str, float]

    @property
    def masks(self) -> float:
        """Masks for each frame."""
        return sum(share for key, share in self.stages.items() if key.startswith("segmenter"))


@dataclass(frozen=True, slots=True)
class Host:
    """What the processor takes for each frame, in milliseconds of one core, when the device costs nothing.

    ``decode_ms`` is image decoding, during which other threads of the process work on; ``hand_over_ms`` the way of a
    frame through the process, without a broker, of which one thread at a time does its part; ``mask_ms`` the run
    lengths of one mask, likewise; ``stream_ms`` Kafka, likewise.
    """

    decode_ms: float
    hand_over_ms: float
    mask_ms: float
    stream_ms: float

    def serial_ms(self, shares: Shares) -> float:
        """What one thread at a time can do of a frame: a process takes no more frames than this allows."""
        return self.hand_over_ms + self.stream_ms + self.mask_ms * shares.masks

    def total_ms(self, shares: Shares) -> float:
        """All of a frame."""
        return self.decode_ms + self.serial_ms(shares)


def expected_stage_s(floors: Mapping[int, float], share: float, max_frames: int) -> float:
    """Expected seconds of a stage for one batch of ``max_frames`` frames of which each needs it with ``share``.

    ``floors`` are seconds of one run by batch size. Frames are independent of each other, which on a real strip they
    are not: where defects come together, runs are fewer and fuller.
    """
    expected = 0.0
    for count in range(1, max_frames + 1):
        chance = math.comb(max_frames, count) * share**count * (1 - share) ** (max_frames - count)
        expected += chance * sum(floors[chunk.batch_size] for chunk in plan_chunks(count, tuple(floors)))
    return expected


def cascade_fps(works: Mapping[str, Mapping[int, StageWork]], shares: Shares, device: Device, max_frames: int) -> float:
    """Frames a second of the cascade's floors on a device that is never idle: full batches, copies hidden."""
    seconds = 0.0
    for key, by_size in works.items():
        floors = {size: stage_floor_s(work, device) for size, work in by_size.items()}
        seconds += expected_stage_s(floors, shares.stages.get(key, 0.0), max_frames)
    return max_frames / seconds


def bus_fps(shares: Shares, device: Device, frame_bytes: int) -> float:
    """Frames a second that the bus takes: frames one way, masks of the same size the other, each at its own rate."""
    return device.host_bytes_s / (frame_bytes * max(1.0, shares.masks))


def count_cascade(
    definition: CascadeDefinition, max_frames: int, *, half: bool = True
) -> dict[str, dict[int, StageWork]]:
    """The work of every stage, by its key and batch size; the buffer of frames has ``max_frames`` places."""
    works: dict[str, dict[int, StageWork]] = {}
    for stage in definition.stages:
        model = onnx.load(stage.model)
        works[stage.key] = {
            size: count_stage(model, batch_size=size, places=max_frames, half=half) for size in batch_sizes(max_frames)
        }
    return works


def measure_shares(options: Options, frames: int) -> list[Shares]:
    """The shares of every stage at each defect rate: which frames go on does not depend on the device."""
    settings = options.settings()
    # Builds the engines where they are missing.
    open_inspector(settings).close()
    shares = []
    for rate in DEFECT_RATES:
        parts = measure_parts(settings, _frames(settings, rate, frames))
        shares.append(Shares(rate, {key: runs / frames for key, runs in parts.runs.items() if key != "decode"}))
    return shares


def measure_host(options: Options, frames: int, stream_ms: float) -> Host:
    """What the processor takes on this machine, in processor time: other programs run here too."""
    settings = options.settings()
    given = _frames(settings, DEFECT_RATES[0], frames)
    decode_ms = measure_decoding(settings, given).cpu_ms_per_frame
    idle_ms = measure_idle_device(settings, given).cpu_ms_per_frame
    mask_ms = measure_masks(settings.cascade / "truth.csv", load_definition(settings.cascade)).cpu_ms_per_frame
    return Host(decode_ms, max(0.0, idle_ms - decode_ms), mask_ms, stream_ms)


def _frames(settings: Settings, rate: float, count: int) -> list[Frame]:
    workload = read_workload(settings.cascade / "recording.parquet", settings.cascade / "truth.csv", rate)
    return as_read(workload.frames(count))


@click.command()
@click.option("--cascade", type=click.Path(path_type=Path), default=Path("cascades/reference"), show_default=True)
@click.option("--directory", type=click.Path(path_type=Path), default=Path("engines/compiled"), show_default=True)
@click.option("--max-frames", type=click.IntRange(1, 64), default=16, show_default=True, help="Frames in a full batch.")
@click.option("--frames", type=click.IntRange(min=20), default=400, show_default=True, help="Frames to measure with.")
@click.option("--stream-cpu-ms", type=float, default=STREAM_CPU_MS, show_default=True, help="Kafka's share of a frame.")
def main(cascade: Path, directory: Path, max_frames: int, frames: int, stream_cpu_ms: float) -> None:
    """Calculate the cascade's speed on GPUs from its graphs and their data sheets."""
    definition = load_definition(cascade)
    works = count_cascade(definition, max_frames)
    options = Options(None, (f"cascade={cascade}", f"engine.directory={directory}"))
    shares, host = measure_shares(options, frames), measure_host(options, frames, stream_cpu_ms)
    frame_bytes = definition.input.height * definition.input.width
    click.echo("Calculated, not measured: no GPU had a part in any of these figures.\n")
    alike = _alike(works)
    for lines in (
        _work_table(alike),
        _floor_table(alike),
        _cascade_table(works, shares, max_frames, frame_bytes),
        _host_table(works, shares, host, max_frames),
    ):
        click.echo("\n".join(lines) + "\n")
    click.echo(f"Shares and host figures: {frames} frames on {cpu_model()}")


def _work_table(works: Mapping[str, Mapping[int, StageWork]]) -> Iterator[str]:
    sizes = list(next(iter(works.values())))
    yield (
        "| stage, float16 | multiply-adds a frame, 10^6 | kernels | "
        + " | ".join(f"MB moved a frame, batch {size}" for size in sizes)
        + " |"
    )
    yield _rule(3 + len(sizes))
    for key, by_size in works.items():
        first = by_size[sizes[0]]
        moved = " | ".join(f"{by_size[size].bytes_moved / size / 1e6:.1f}" for size in sizes)
        yield f"| {key} | {first.multiply_adds / sizes[0] / 1e6:.0f} | {len(first.kernels)} | {moved} |"


def _floor_table(works: Mapping[str, Mapping[int, StageWork]]) -> Iterator[str]:
    sizes = list(next(iter(works.values())))
    yield "| floor in microseconds a run | " + " | ".join(f"batch {size}" for size in sizes) + " |"
    yield _rule(1 + len(sizes))
    for device in DEVICES:
        for key, by_size in works.items():
            floors = " | ".join(f"{1e6 * stage_floor_s(by_size[size], device):.0f}" for size in sizes)
            yield f"| {device.name}: {key} | {floors} |"


def _cascade_table(
    works: Mapping[str, Mapping[int, StageWork]], shares: Sequence[Shares], max_frames: int, frame_bytes: int
) -> Iterator[str]:
    yield "| GPU | defective | floor, frames/s | expected, frames/s | the bus, frames/s |"
    yield _rule(5)
    for device in DEVICES:
        for of_rate in shares:
            fps = cascade_fps(works, of_rate, device, max_frames)
            low, high = (_rounded(share * fps) for share in EXPECTED_SHARE)
            bus = _rounded(bus_fps(of_rate, device, frame_bytes))
            yield f"| {device.name} | {of_rate.defect_rate:.0%} | {_rounded(fps)} | {low} to {high} | {bus} |"


def _host_table(
    works: Mapping[str, Mapping[int, StageWork]],
    shares: Sequence[Shares],
    host: Host,
    max_frames: int,
) -> Iterator[str]:
    yield (
        f"One frame takes {host.decode_ms:.2f} ms of a core to decode, {host.hand_over_ms:.2f} to hand over and"
        f" {host.stream_ms:.2f} for Kafka, one mask {host.mask_ms:.2f}."
    )
    yield ""
    yield "| defective | classified | masks a frame | frames/s a core | frames/s a process, at most |"
    yield _rule(5)
    for of_rate in shares:
        yield (
            f"| {of_rate.defect_rate:.0%} | {of_rate.stages['classifier']:.1%} | {of_rate.masks:.2f} |"
            f" {_rounded(1000 / host.total_ms(of_rate))} | {_rounded(1000 / host.serial_ms(of_rate))} |"
        )
    yield ""
    yield "| GPU | defective | cores to feed it | processes |"
    yield _rule(4)
    for device in DEVICES:
        for of_rate in shares:
            rates = [share * cascade_fps(works, of_rate, device, max_frames) for share in EXPECTED_SHARE]
            cores = [math.ceil(rate * host.total_ms(of_rate) / 1000) for rate in rates]
            processes = [math.ceil(rate * host.serial_ms(of_rate) / 1000) for rate in rates]
            yield (
                f"| {device.name} | {of_rate.defect_rate:.0%} | {cores[0]} to {cores[1]} |"
                f" {processes[0]} to {processes[1]} |"
            )


def _alike(works: Mapping[str, Mapping[int, StageWork]]) -> dict[str, Mapping[int, StageWork]]:
    """One entry for stages of the same work, under the first's key and the last's."""
    merged: dict[str, Mapping[int, StageWork]] = {}
    for key, work in works.items():
        same = next((name for name, other in merged.items() if other == work), None)
        if same is not None:
            del merged[same]
            key = f"{same.partition(' to ')[0]} to {key}"
        merged[key] = work
    return merged


def _rule(columns: int) -> str:
    return "|" + " --- |" * columns


def _rounded(fps: float) -> str:
    """Two digits: the model knows no more."""
    step = 10 ** max(0, math.floor(math.log10(fps)) - 1)
    return f"{round(fps / step) * step:,.0f}"


if __name__ == "__main__":
    main()
