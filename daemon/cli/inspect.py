"""``millwatch inspect``: image files through the cascade, without a broker."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from daemon.cli.options import with_settings
from daemon.settings import Settings

if TYPE_CHECKING:
    from engines.build import BuildStep


@click.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE...")
@click.option(
    "--overlays",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write each image there with its defects drawn in.",
)
@click.option(
    "--truth",
    "truth_file",
    type=click.Path(path_type=Path),
    metavar="MASKS",
    help="Draw true masks, too: a CSV of ImageId,ClassId,EncodedPixels. Needs --overlays.",
)
@with_settings
def command(settings: Settings, images: tuple[Path, ...], overlays: Path | None, truth_file: Path | None) -> None:
    """Inspect image files, or all images in folders, and print one event a line, whose id is the file's path.

    An image that cannot be inspected is told on standard error, and the rest go on; the exit code is then 2.

    Example: millwatch inspect frames/ --overlays pictures --truth train.csv
    """
    from daemon.file_inspection import InspectedFile, draw_file, inspect_files
    from daemon.inspector import image_limits, open_inspector
    from daemon.pictures.files import PictureFolder
    from daemon.truth import read_truth
    from engines.errors import UsageError

    if truth_file is not None and overlays is None:
        raise UsageError("--truth is for the pictures: name their folder with --overlays DIR")
    truth = None if truth_file is None else read_truth(truth_file)
    rejected = 0
    with open_inspector(settings, _tell) as cascade:
        names = {item.id: item.name for item in cascade.settings.classes}
        pictures = None if overlays is None else PictureFolder(overlays)
        for result in inspect_files(images, cascade, image_limits(settings)):
            if isinstance(result, InspectedFile):
                click.echo(result.event.to_json())
                if pictures is not None:
                    pictures.save(result.path.stem, draw_file(result, truth, names))
            else:
                rejected += 1
                click.echo(f"millwatch: {result.path}: {result.problem}", err=True)
    if rejected:
        raise UsageError(f"{rejected} {'image' if rejected == 1 else 'images'} could not be inspected")


def _tell(step: BuildStep) -> None:
    click.echo(f"building {step.stage} ({step.number} of {step.total})", err=True)
