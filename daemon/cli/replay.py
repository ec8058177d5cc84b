"""``millwatch replay``: images and recordings into the camera topic."""

from __future__ import annotations

from pathlib import Path

import click

from daemon.cli.options import with_settings
from daemon.settings import Settings
from daemon.wording import counted


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), metavar="FPS", help="Frames sent per second.")
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    metavar="X",
    help="Keep the pace of the recording, X times as fast.",
)
@click.option("--loop", is_flag=True, help="Begin again at the end, until Ctrl-C or --limit.")
@click.option("--camera", metavar="ID", help="Camera, instead of the recorded one ['replay' for image files].")
@click.option("--coil", metavar="ID", help="Coil, instead of the recorded one.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Send at most N frames.")
@with_settings
def command(
    settings: Settings,
    paths: tuple[Path, ...],
    rate: float | None,
    speed: float | None,
    loop: bool,
    camera: str | None,
    coil: str | None,
    limit: int | None,
) -> None:
    """Put image files, folders of them, or recordings (.parquet) on the camera topic, as fast as it takes them.

    Records get new timestamps; a recorded one goes into the header captured-at, unless that is there already. Files are
    sent as they are, with frame-id (the file's name), crc32c and content-type; of those that are no image a warning
    says how many. One camera's frames stay in order.

    Example: millwatch replay recording.parquet --speed 2
    """
    from daemon.kafka import clients
    from daemon.kafka.session import partitions_of, session
    from daemon.progress import progress
    from daemon.replay import Footage, Pace, Replayer
    from daemon.stopping import stop_on_signal
    from engines.errors import UsageError

    if rate is not None and speed is not None:
        raise UsageError("--rate and --speed exclude each other: a pace of your own, or the recorded one")
    footage = Footage.find(paths, camera=camera, coil=coil)
    if speed is not None and not footage.has_times:
        raise UsageError("--speed needs a recording: image files do not say when they were taken; use --rate")
    frames = footage.count()
    if not frames:
        raise UsageError(f"{', '.join(map(str, paths))}: no frames")
    total = limit if loop else min(frames, limit or frames)
    topic = settings.kafka.topics.frames
    with session(settings, clients.reader) as consumer:
        partitions_of(consumer, topic)
    strange = footage.without_signature()
    if strange:
        # Sent all the same: whoever tries dead letters out means it.
        click.echo(
            f"millwatch: {counted(len(strange), 'file')} without the signature of a JPEG, PNG, BMP or TIFF"
            f" ({strange[0]}{', ...' if len(strange) > 1 else ''}): sent as they are, to become dead letters",
            err=True,
        )
    with (
        session(settings, clients.frame_producer) as producer,
        stop_on_signal() as stop,
        progress("replay", total) as report,
    ):
        replayer = Replayer(producer, topic, on_sent=lambda sent: report(sent.frames), stop=stop)
        try:
            replayer.send(footage, Pace(rate=rate, speed=speed), loop=loop, limit=limit)
        finally:
            sent = replayer.sent
            click.echo(f"{counted(sent.frames, 'frame')}, {sent.bytes / 1e6:.1f} MB, sent to {topic}")
