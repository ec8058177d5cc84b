"""``millwatch redrive``: dead letters back into the camera topic."""

from __future__ import annotations

import click

from daemon.cli.options import with_settings
from daemon.settings import Settings


@click.command()
@click.option(
    "--reason", "reasons", multiple=True, metavar="REASON", help="Only letters of this reason; may be repeated [all]."
)
@click.option(
    "--from",
    "start",
    default="earliest",
    show_default=True,
    metavar="WHERE",
    help="earliest, a time as in 2026-11-22T10:00:00Z, or an offset of the dead-letter topic.",
)
@click.option(
    "--until",
    default="latest",
    show_default=True,
    metavar="WHERE",
    help="latest (what is there now), a time, or the first offset left out.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Put back at most N frames.")
@click.option("--again", is_flag=True, help="Put back what was put back before, too.")
@click.option("--died-again", is_flag=True, help="Put back frames that died again after they were put back, too.")
@click.option("--dry-run", is_flag=True, help="Count what would be put back, and send nothing.")
@with_settings
def command(
    settings: Settings,
    reasons: tuple[str, ...],
    start: str,
    until: str,
    limit: int | None,
    again: bool,
    died_again: bool,
    dry_run: bool,
) -> None:
    """Put frames that could not be inspected on the camera topic again, each one once, by reason and range.

    Whatever was put back is noted beside the offsets of the group GROUP.redrive, in the same transaction as the frames:
    ranges and reasons may come in any order and overlap, and the command may be killed. Times are those at which the
    frames died; an offset counts for every partition. A frame that dies again stays where it is until --died-again asks
    for it: what nothing has cured would come and go with every run. Ctrl-C ends it with what is in hand put back.

    Example: millwatch redrive --reason checksum --from 2026-11-22T06:00:00Z --dry-run
    """
    from daemon.metrics import REASONS
    from daemon.progress import progress
    from daemon.record import parse_bound
    from daemon.redrive import Selection, redriver
    from daemon.stopping import stop_on_signal
    from engines.errors import UsageError

    for reason in reasons:
        if reason not in REASONS:
            raise UsageError(f"--reason {reason}: no such reason, but {', '.join(sorted(REASONS))}")
    if start == "latest" or until == "earliest":
        raise UsageError("--from latest and --until earliest are empty ranges: use a time or an offset")
    selection = Selection(
        parse_bound(start, "--from"),
        parse_bound(until, "--until"),
        frozenset(reasons),
        limit=limit,
        again=again,
        died_again=died_again,
    )
    with stop_on_signal() as stop, redriver(settings, selection, dry_run=dry_run, stop=stop) as redrive:
        try:
            with progress("redrive", redrive.total) as report:
                redrive.run(report)
        finally:
            for line in redrive.outcome.lines(settings.kafka.topics.frames, dry_run=dry_run):
                click.echo(line)
