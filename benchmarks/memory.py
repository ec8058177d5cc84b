"""``python -m benchmarks.memory``: the service's resident memory over many frames, which should stay where it is.

Frames are put on the camera topic in portions, each when the one before is committed. Prints one JSON object.
"""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import click
from kafka import TopicPartition

from daemon.bench.brokers import BROKERS, BrokerKind, open_broker
from daemon.bench.machine import resident_bytes
from daemon.bench.result import rounded
from daemon.bench.stream import Lane, Options, fill, open_lane
from daemon.bench.workload import read_workload

PORTION = 500
"""Frames put on the topic at once: some 40 MB."""

PORTION_TIMEOUT_S = 300.0

BYTES_PER_MB = 1e6


@click.command()
@click.option("--config", type=click.Path(path_type=Path), help="Configuration file of the service.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Set one key of the configuration.")
@click.option("--frames", type=click.IntRange(min=PORTION), default=20_000, show_default=True)
@click.option("--first", type=click.IntRange(min=PORTION), default=2_000, show_default=True, help="Compare with here.")
@click.option("--defect-rate", type=click.FloatRange(0, 1), default=0.05, show_default=True)
@click.option("--broker", type=click.Choice(BROKERS), default="auto", show_default=True)
def main(
    config: Path | None, overrides: tuple[str, ...], frames: int, first: int, defect_rate: float, broker: BrokerKind
) -> None:
    """Measure the service's memory after few frames and after many."""
    # SIGTERM ends the service and the broker below, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = Options(config, overrides)
    folder = options.settings().cascade
    portion = read_workload(folder / "recording.parquet", folder / "truth.csv", defect_rate).frames(PORTION)
    resident: dict[int, float] = {}
    with open_broker(broker) as bootstrap, open_lane(options, bootstrap) as lane, lane.service() as service:
        service.wait_until_reading()
        started = time.monotonic()
        for committed in range(PORTION, frames + 1, PORTION):
            fill(lane, portion)
            lane.wait_until_committed(committed, PORTION_TIMEOUT_S)
            resident[committed] = (resident_bytes(service.pid) or 0) / BYTES_PER_MB
            click.echo(
                f"{committed} frames, {time.monotonic() - started:.0f} s: {resident[committed]:.1f} MB", err=True
            )
            _forget_committed(lane)
        peak_mb = service.peak_resident_bytes / BYTES_PER_MB
        account = service.stop()
    last = max(resident)
    result = {
        "frames": account["clean"] + account["defective"],
        "rss_mb": {str(count): resident[count] for count in (first, last)},
        "growth": resident[last] / resident[first] - 1,
        "peak_rss_mb": peak_mb,
        "most_over_first": max(resident[count] for count in resident if count >= first) / resident[first] - 1,
    }
    click.echo(json.dumps(rounded(result)))


def _forget_committed(lane: Lane) -> None:
    """Let the broker drop what is committed: it is the service's memory that is measured."""
    group = lane.settings.kafka.group
    offsets: dict[TopicPartition, int] = {
        partition: at.offset for partition, at in lane.admin.list_group_offsets(group)[group].items()
    }
    lane.admin.delete_records(offsets)


if __name__ == "__main__":
    main()
