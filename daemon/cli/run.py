"""``millwatch run``: the service."""

from __future__ import annotations

import click

from daemon.cli.options import with_settings
from daemon.settings import Settings


@click.command()
@click.option(
    "--until-idle",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="End when no frame came for so long.",
)
@with_settings
def command(settings: Settings, until_idle: float | None) -> None:
    """Inspect frames until SIGTERM or SIGINT, then finish what is in hand, commit and end.

    Example: millwatch run --config config.yaml
    """
    from daemon.service import run_service

    run_service(settings, until_idle)
