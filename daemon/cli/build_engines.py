"""``millwatch build-engines``: a cascade's models to engines for this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from daemon.cli.options import with_settings
from daemon.settings import Settings

if TYPE_CHECKING:
    from rich.table import Table

    from engines.backends import BackendChoice
    from engines.build import BuildReport, BuildStep
    from engines.manifest import RefusedPrecision


@click.command()
@click.option("--backend", type=click.Choice(["auto", "tensorrt", "openvino"]), help="Engine backend [engine.backend].")
@click.option("--cascade", type=click.Path(path_type=Path), metavar="DIR", help="Folder of the cascade [cascade].")
@click.option("--output", type=click.Path(path_type=Path), metavar="DIR", help="Folder for engines [engine.directory].")
@click.option("--force", is_flag=True, help="Build although the engines are up to date.")
@with_settings
def command(
    settings: Settings, backend: BackendChoice | None, cascade: Path | None, output: Path | None, force: bool
) -> None:
    """Build the engines of a cascade, and measure how far they agree with its models. Does nothing where they are up
    to date.

    Example: millwatch build-engines --backend openvino --output engines/compiled
    """
    from rich.console import Console

    from engines.build import build_cascade

    report = build_cascade(
        cascade or settings.cascade,
        directory=output or settings.engine.directory,
        backend=backend or settings.engine.backend,
        device=settings.engine.device,
        hardware_compatibility=settings.engine.hardware_compatibility,
        max_frames=settings.batch.max_frames,
        bit_depth=settings.input.bit_depth,
        force=force,
        progress=_tell,
    )
    # Piped into a file the table must not be folded to a terminal's 80 columns.
    console = Console(width=None if Console().is_terminal else 160)
    console.print(_table(report))
    device = report.manifest.device
    state = "up to date" if report.up_to_date else "built"
    console.print(f"{state}: {report.folder}, for {device.backend} {device.version} on {device.name}", highlight=False)


def _tell(step: BuildStep) -> None:
    click.echo(f"building {step.stage} ({step.number} of {step.total})", err=True)


def _table(report: BuildReport) -> Table:
    from rich.table import Table
    from rich.text import Text

    manifest = report.manifest
    refused = [
        f"{stage.stage}: {found.precision} was refused{_at(found)}: {found.reason}"
        for stage in manifest.stages
        for found in stage.refused
    ]
    table = Table(
        title=f"{manifest.cascade} {manifest.version}: worst disagreement on {manifest.compared_frames} frames, "
        f"{manifest.defective_frames} of them defective",
        caption=Text("\n".join(refused)) if refused else None,
        caption_justify="left",
    )
    for name in ("stage", "batch", "precision", "score off by", "verdicts flipped", "mask flipped", "Dice", "MB", "s"):
        table.add_column(name, justify="left" if name in ("stage", "precision") else "right")
    for engine in report.engines:
        agreement = engine.agreement
        table.add_row(
            engine.stage,
            str(engine.batch_size),
            engine.precision,
            _figure(agreement.max_score_difference, ".4f"),
            _figure(agreement.verdicts_flipped, "d"),
            _figure(agreement.max_flipped_share, ".3%"),
            _figure(agreement.min_dice, ".4f"),
            f"{engine.bytes / 1e6:.1f}",
            f"{engine.seconds:.1f}",
        )
    return table


def _at(refused: RefusedPrecision) -> str:
    return "" if refused.batch_size is None else f" at batch size {refused.batch_size}"


def _figure(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
