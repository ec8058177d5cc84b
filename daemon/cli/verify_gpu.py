"""``millwatch verify-gpu``: does the GPU path work on this machine?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from daemon.cli.options import with_settings
from daemon.settings import Settings

if TYPE_CHECKING:
    from rich.table import Table

    from engines.verification.report import PartName, PartReport

MOST_ROWS = 60
"""Rows of a part that are shown; the JSON has all of them."""


@click.command()
@click.option("--cascade", type=click.Path(path_type=Path), metavar="DIR", help="Folder of the cascade [cascade].")
@click.option("--output", type=click.Path(path_type=Path), metavar="DIR", help="Folder for engines [engine.directory].")
@click.option("--json", "target", type=click.Path(path_type=Path), metavar="FILE", help="Write the report there too.")
@click.option(
    "--seconds", type=click.FloatRange(0.01, 600), default=1.0, show_default=True, help="Time for each speed."
)
@click.option(
    "--opens", type=click.IntRange(2, 1000), default=20, show_default=True, help="Openings in search of a leak."
)
@click.option(
    "--rehearse", is_flag=True, help="Run the parts on the processor, to see what they do; it says nothing of a GPU."
)
@with_settings
def command(
    settings: Settings,
    cascade: Path | None,
    output: Path | None,
    target: Path | None,
    seconds: float,
    opens: int,
    rehearse: bool,
) -> None:
    """Check the GPU path on this machine, part by part: device, build of every engine, agreement, speed, slots, leaks,
    graphs, decoder. Engines that fit already are not built again.

    Ends with 0 where nothing failed, 5 without a device, 4 where engines were not built or disagree, else 1.

    Example: millwatch verify-gpu --json verify-gpu.json
    """
    from rich.console import Console

    from daemon.stopping import unwind_on_sigterm
    from engines.verification.report import Plan
    from engines.verification.runner import verify

    # The part that runs is a process of its own: it ends with this command, however it ends.
    unwind_on_sigterm()
    if target is not None:
        # Found out now and not after an hour.
        target.open("a", encoding="utf-8").close()
    plan = Plan(
        cascade=cascade or settings.cascade,
        directory=output or settings.engine.directory,
        backend="openvino" if rehearse else "tensorrt",
        device="auto" if rehearse else settings.engine.device,
        hardware_compatibility=settings.engine.hardware_compatibility,
        max_frames=settings.batch.max_frames,
        slots=settings.engine.slots,
        bit_depth=settings.input.bit_depth,
        seconds=seconds,
        opens=opens,
    )
    report = verify(plan, tell=_tell)
    if target is not None:
        target.write_text(report.model_dump_json(by_alias=True, indent=1) + "\n", encoding="utf-8")
    # Piped into a file the tables must not be folded to a terminal's 80 columns.
    console = Console(width=None if Console().is_terminal else 160)
    for part in report.parts:
        if part.figures:
            console.print(_figures(part))
    console.print(_summary(report.parts))
    if report.rehearsal:
        console.print("A rehearsal on the processor: no figure above says anything of a GPU.", highlight=False)
    click.get_current_context().exit(report.exit_code())


def _tell(part: PartName) -> None:
    click.echo(f"verifying {part}", err=True)


def _figures(part: PartReport) -> Table:
    from rich.table import Table
    from rich.text import Text

    columns = list(dict.fromkeys(key for row in part.figures for key in row))
    left = len(part.figures) - MOST_ROWS
    table = Table(title=part.part, caption=f"and {left} rows more, in the JSON" if left > 0 else None)
    for column in columns:
        number = all(isinstance(row.get(column), int | float | None) for row in part.figures)
        table.add_column(column, justify="right" if number else "left")
    for row in part.figures[:MOST_ROWS]:
        table.add_row(*(Text(_told(row.get(column))) for column in columns))
    return table


def _summary(parts: tuple[PartReport, ...]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table("part", "outcome", "detail", "s", title="verify-gpu")
    for part in parts:
        table.add_row(part.part, part.outcome, Text(part.detail), f"{part.seconds:.1f}")
    return table


def _told(value: str | int | float | bool | None) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    # Four digits tell a figure; a count or a batch size is whole.
    return f"{value:.4g}" if isinstance(value, float) else str(value)
