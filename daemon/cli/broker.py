"""``millwatch broker``: the embedded broker in the foreground."""

from __future__ import annotations

from pathlib import Path

import click

from daemon.cli.options import with_settings
from daemon.embedded_broker import EmbeddedBroker
from daemon.errors import BrokerUnreachableError
from daemon.settings import Settings
from daemon.stopping import unwind_on_sigterm


@click.command()
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=9092, show_default=True, help="TCP port; 0: a free one."
)
@click.option("--data-dir", type=click.Path(path_type=Path), metavar="DIR", help="Keep the data there [temporary].")
@with_settings
def command(_settings: Settings, port: int, data_dir: Path | None) -> None:
    """Run the embedded broker on loopback until SIGTERM or SIGINT. It is for development, never for production.

    It hands out all that waits on a partition at once: more than about 250 MB there can no longer be read.

    Example: millwatch broker --port 9092 --data-dir /tmp/broker
    """
    unwind_on_sigterm()
    try:
        with EmbeddedBroker(port, data_dir) as broker:
            click.echo(f"embedded broker on {broker.bootstrap}, for development only; Ctrl-C ends it")
            code = broker.wait()
            raise BrokerUnreachableError(f"the embedded broker ended by itself with code {code}")
    except KeyboardInterrupt:
        return
