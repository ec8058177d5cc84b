"""``millwatch check``: is everything there that the service needs?"""

from __future__ import annotations

import click

from daemon.cli.options import with_settings
from daemon.settings import Settings


@click.command()
@click.option("--offline", is_flag=True, help="Leave out the broker and its topics.")
@click.option("--create", is_flag=True, help="Make topics that are missing; the camera topic with retention.")
@click.option(
    "--transactions", is_flag=True, help="Try the broker's transactions out on a topic that is made for it and deleted."
)
@with_settings
def command(settings: Settings, offline: bool, create: bool, transactions: bool) -> None:
    """Check configuration, device, decoder, engines, broker and topics: one line each, and what to do.

    Ends with the exit code of the first thing that is not right.

    Example: millwatch check --config config.yaml --create
    """
    from daemon.checks import run_checks

    for option, given in (("--create", create), ("--transactions", transactions)):
        if offline and given:
            raise click.UsageError(f"{option} needs the broker that --offline leaves out", click.get_current_context())
    code = 0
    for outcome in run_checks(settings, offline=offline, create=create, transactions=transactions):
        mark = "FAIL" if outcome.exit_code else "skip" if outcome.skipped else "ok"
        click.echo(f"{mark:<4}  {outcome.item:<13}  {outcome.detail}")
        code = code or outcome.exit_code
    click.get_current_context().exit(code)
