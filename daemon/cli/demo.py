"""``millwatch demo``: all of it on one machine, on frames that come with the cascade."""

from __future__ import annotations

from pathlib import Path

import click

from daemon.cli.options import with_settings
from daemon.settings import Settings


@click.command()
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo-output"),
    show_default=True,
    metavar="DIR",
    help="Folder for report, pictures, events and the daemon's log.",
)
@click.option(
    "--recording",
    "recordings",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Frames of your own: a recording, an image, or a folder of them. May be repeated.",
)
@click.option(
    "--truth",
    type=click.Path(path_type=Path),
    metavar="MASKS",
    help="Their true masks, all of them: a CSV of ImageId,ClassId,EncodedPixels.",
)
@with_settings
def command(settings: Settings, output: Path, recordings: tuple[Path, ...], truth: Path | None) -> None:
    """Build the engines, start a broker and the service, replay a recording, and show what is found.

    Ends with 6 where a frame is not accounted for. The broker is the embedded one, on loopback, and ends with the demo.

    Example: millwatch demo --recording frames/ --output my-demo
    """
    from rich.console import Console

    from daemon.demo import demo_input, run_demo
    from daemon.stopping import unwind_on_sigterm

    # A broker and a daemon of our own are running below: they end with this command, however it ends.
    unwind_on_sigterm()
    run_demo(settings, demo_input(settings, recordings, truth), output, Console(highlight=False))
