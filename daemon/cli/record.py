"""``millwatch record``: the camera topic to a recording."""

from __future__ import annotations

from pathlib import Path

import click

from daemon.cli.options import with_settings
from daemon.settings import Settings
from daemon.wording import counted


@click.command()
@click.option(
    "--output", required=True, type=click.Path(path_type=Path), metavar="FILE", help="The recording, a Parquet file."
)
@click.option(
    "--from",
    "start",
    default="latest",
    show_default=True,
    metavar="WHERE",
    help="earliest, latest (what comes from now on), a time as in 2026-11-22T10:00:00Z, or an offset.",
)
@click.option(
    "--until", metavar="WHERE", help="latest (what is there now), a time, or the first offset left out [until Ctrl-C]."
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Record at most N frames.")
@click.option("--force", is_flag=True, help="Replace a recording that is there already.")
@with_settings
def command(settings: Settings, output: Path, start: str, until: str | None, limit: int | None, force: bool) -> None:
    """Write frames of the camera topic to a recording, byte for byte. Ctrl-C ends it and keeps what there is.

    It reads beside the service: no consumer group, no commits. Times are those of the records; an offset counts for
    every partition. Frames of several partitions are put in the order of their times.

    Example: millwatch record --output shift.parquet --from 2026-11-22T06:00:00Z --until 2026-11-22T06:10:00Z
    """
    from itertools import islice

    from daemon.kafka import clients
    from daemon.kafka.rights import Right
    from daemon.kafka.session import session
    from daemon.progress import progress
    from daemon.record import RangeReader, parse_bound, recorded
    from daemon.stopping import stop_on_signal
    from engines.errors import UsageError
    from engines.recording import RecordingWriter

    if until == "earliest":
        raise UsageError("--until earliest is an empty range: use latest, a time or an offset")
    if output.exists() and not force:
        raise UsageError(f"{output}: is there already: name another file, or pass --force to replace it")
    first = parse_bound(start, "--from")
    last = None if until is None else parse_bound(until, "--until")
    topic = settings.kafka.topics.frames
    needed = [Right("Read", "topic", topic)]
    with session(settings, clients.reader, needed) as consumer, stop_on_signal() as stop:
        reader = RangeReader(consumer, topic, start=first, until=last, stop=stop)
        known = [number for number in (reader.total(), limit) if number is not None]
        with RecordingWriter(output) as writer, progress("record", min(known) if known else None) as report:
            for record in islice(reader, limit):
                writer.write(recorded(record))
                report(writer.frames)
    click.echo(f"{counted(writer.frames, 'frame')} from {topic} in {output}")
