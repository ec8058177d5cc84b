"""``millwatch bench``: the cascade alone and end to end, as one JSON object."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from daemon.cli.options import with_settings
from daemon.settings import Settings

if TYPE_CHECKING:
    from daemon.bench.brokers import BrokerKind


@click.command()
@click.option(
    "--frames",
    type=click.IntRange(min=20),
    default=4800,
    show_default=True,
    help="Frames for each speed: 4800 take two to five minutes on two cores.",
)
@click.option(
    "--rounds", type=click.IntRange(1, 20), default=4, show_default=True, help="How often the parts take turns."
)
@click.option(
    "--defect-rate", type=click.FloatRange(0, 1), default=0.05, show_default=True, help="Share of defective frames."
)
@click.option(
    "--recording", type=click.Path(path_type=Path), metavar="FILE", help="Frames to use [those of the cascade]."
)
@click.option(
    "--truth",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Table of their true masks, which tells the defective ones [truth.csv beside the recording].",
)
@click.option(
    "--broker",
    type=click.Choice(["auto", "apache", "embedded", "configured"]),
    default="auto",
    show_default=True,
    help="One of the command's own (Apache Kafka where MILLWATCH_KAFKA_HOME names a home, else the embedded one), or "
    "kafka.bootstrap, with topics of the command's own that are removed at the end.",
)
@click.option(
    "--skip",
    type=click.Choice(["naive", "end-to-end", "latency"]),
    multiple=True,
    help="Leave a part out; its figures are null.",
)
@with_settings
def command(
    settings: Settings,
    frames: int,
    rounds: int,
    defect_rate: float,
    recording: Path | None,
    truth: Path | None,
    broker: BrokerKind | Literal["configured"],
    skip: tuple[str, ...],
) -> None:
    """Measure how fast this machine inspects: the cascade alone, and end to end through a broker.

    Prints one JSON object; progress goes to standard error.

    Example: millwatch bench --frames 600 --skip latency
    """
    from daemon.bench.run import PARTS, Plan, run_bench
    from daemon.bench.stream import Options
    from daemon.bench.workload import read_workload
    from daemon.stopping import unwind_on_sigterm

    # A broker and a service of our own are running below: they end with this command, however it ends.
    unwind_on_sigterm()
    if recording is None:
        recording = settings.cascade / "recording.parquet"
    workload = read_workload(recording, truth or recording.with_name("truth.csv"), defect_rate)
    given = click.get_current_context().params
    plan = Plan(
        # The service under measurement is a process of its own: it gets the same configuration in the same words.
        options=Options(given["config"], given["overrides"]),
        workload=workload,
        frames=frames,
        rounds=rounds,
        broker=None if broker == "configured" else broker,
        skip=[part for part in PARTS if part in skip],
    )
    result = run_bench(plan, lambda line: click.echo(line, err=True))
    click.echo(result.to_json())
