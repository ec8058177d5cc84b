"""``python -m benchmarks.delivery``: what exactly once costs over at least once, in throughput and in latency.

The two take turns on one broker. Prints one JSON object.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click

from daemon.bench.brokers import BROKERS, BrokerKind, open_broker
from daemon.bench.machine import cpu_model
from daemon.bench.result import Measured, Percentiles, rounded
from daemon.bench.run import BROKER_WARM_UPS, WARM_UP_SHARE
from daemon.bench.stream import Options, measure_end_to_end, measure_latency, open_lane
from daemon.bench.workload import read_workload
from engines.cores import core_count
from engines.recording import RecordedFrame

DELIVERIES = ("exactly_once", "at_least_once")


@dataclass(slots=True)
class Contender:
    """One delivery and what its rounds gave."""

    name: str
    options: Options
    speeds: list[Measured] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)

    @property
    def fps(self) -> float:
        """Frames a second over all rounds."""
        return Measured.total(self.speeds).fps


@click.command()
@click.option("--config", type=click.Path(path_type=Path), help="Configuration file of the service.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Set one key of the configuration.")
@click.option("--frames", type=click.IntRange(min=20), default=1_600, show_default=True, help="For each round.")
@click.option("--rounds", type=click.IntRange(1, 20), default=4, show_default=True)
@click.option("--defect-rate", type=click.FloatRange(0, 1), default=0.05, show_default=True)
@click.option("--broker", type=click.Choice(BROKERS), default="auto", show_default=True)
def main(
    config: Path | None, overrides: tuple[str, ...], frames: int, rounds: int, defect_rate: float, broker: BrokerKind
) -> None:
    """Compare the two deliveries: frames a second from a filled topic, and latency at half of that."""
    # SIGTERM ends the service and the broker below, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Options(config, overrides).settings().cascade
    recorded = read_workload(folder / "recording.parquet", folder / "truth.csv", defect_rate).frames(frames)
    contenders = [Contender(name, Options(config, (*overrides, f"kafka.delivery={name}"))) for name in DELIVERIES]
    with open_broker(broker) as bootstrap:
        for number in range(BROKER_WARM_UPS):
            _measure_speed(contenders[number % len(contenders)], bootstrap, recorded)
        for contender in contenders:
            contender.speeds.clear()
        for number in range(rounds):
            for contender in _in_turns(contenders, number):
                _measure_speed(contender, bootstrap, recorded)
        half = min(contender.fps for contender in contenders) / 2
        for number in range(rounds):
            for contender in _in_turns(contenders, number):
                _measure_latency(contender, bootstrap, recorded[: frames // 2], half)
    click.echo(json.dumps(rounded(_result(contenders, half, frames * rounds, defect_rate))))


def _in_turns(contenders: Sequence[Contender], number: int) -> Sequence[Contender]:
    """Every other round the other way about: a machine that grows slower or faster favours nobody."""
    return contenders if number % 2 == 0 else contenders[::-1]


def _measure_speed(contender: Contender, bootstrap: str, frames: Sequence[RecordedFrame]) -> None:
    with open_lane(contender.options, bootstrap) as lane:
        measured, _ = measure_end_to_end(lane, frames)
    contender.speeds.append(measured)
    click.echo(f"{contender.name}: {measured.fps:.1f} fps, {measured.cpu_ms_per_frame:.2f} CPU-ms a frame", err=True)


def _measure_latency(contender: Contender, bootstrap: str, frames: Sequence[RecordedFrame], fps: float) -> None:
    with open_lane(contender.options, bootstrap) as lane:
        latencies, _ = measure_latency(lane, frames, fps, len(frames) // WARM_UP_SHARE)
    contender.latencies_ms += latencies
    click.echo(f"{contender.name}: p50 {Percentiles.of(latencies).p50:.1f} ms at {fps:.1f} fps", err=True)


def _result(contenders: Sequence[Contender], half: float, frames: int, defect_rate: float) -> dict[str, object]:
    exactly, at_least = contenders
    latency = {contender.name: Percentiles.of(contender.latencies_ms) for contender in contenders}
    return {
        "frames": frames,
        "defect_rate": defect_rate,
        "cores": core_count(),
        "cpu": cpu_model(),
        "fps": {contender.name: contender.fps for contender in contenders},
        "cpu_ms_per_frame": {each.name: Measured.total(each.speeds).cpu_ms_per_frame for each in contenders},
        "throughput_ratio": exactly.fps / at_least.fps,
        "latency_fps": half,
        "latency_ms": {name: asdict(percentiles) for name, percentiles in latency.items()},
        "latency_events": {contender.name: len(contender.latencies_ms) for contender in contenders},
        "added_p50_ms": latency[exactly.name].p50 - latency[at_least.name].p50,
    }


if __name__ == "__main__":
    main()
