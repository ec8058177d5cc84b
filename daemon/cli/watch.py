"""``millwatch watch``: defect events as they come."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import click

from daemon.cli.options import with_settings
from daemon.settings import Settings


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One event a line.")
@click.option(
    "--overlays",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write a picture of each defective frame there, its defects drawn in.",
)
@click.option(
    "--from",
    "start",
    type=click.Choice(["earliest", "latest"]),
    default="latest",
    show_default=True,
    help="Begin with all events that are kept, or with the next one.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="End after N events.")
@click.option(
    "--until-idle",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="End when no event came for so long.",
)
@with_settings
def command(
    settings: Settings,
    as_json: bool,
    overlays: Path | None,
    start: Literal["earliest", "latest"],
    limit: int | None,
    until_idle: float | None,
) -> None:
    """Show defect events as they are committed, until Ctrl-C: a table, or JSON for other programs.

    Example: millwatch watch --json | jq .defects
    """
    from itertools import islice

    from daemon.event_pictures import EventPictures
    from daemon.event_table import EventTable
    from daemon.kafka import clients
    from daemon.kafka.rights import Right
    from daemon.kafka.session import session
    from daemon.stopping import stop_on_signal
    from daemon.watch import follow_events

    topic = settings.kafka.topics.events
    with ExitStack() as resources:
        consumer = resources.enter_context(session(settings, clients.reader, [Right("Read", "topic", topic)]))
        pictures = None if overlays is None else resources.enter_context(EventPictures.open(settings, overlays))
        stop = resources.enter_context(stop_on_signal())
        table = None if as_json else EventTable()
        events = follow_events(consumer, topic, start=start, until_idle_s=until_idle, stop=stop)
        for event in islice(events, limit):
            if table is None:
                click.echo(event.to_json())
            else:
                table.show(event)
            if pictures is not None and event.defects:
                pictures.save(event)
