"""What the demo says on the terminal of what it does and of what came of it."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from daemon.pictures.palette import class_colour
from daemon.pictures.report import ClassRow, Report
from daemon.scoring import total
from daemon.wording import counted


def tell(console: Console, what: str, text: str) -> None:
    """A line of what is done, or of what came of it."""
    console.print(Text.assemble((f"{what:<9}", "bold"), text), soft_wrap=True)


def tell_summary(console: Console, report: Report, output: Path) -> None:
    """The account, the speed, the classes and, where there is a truth, what was found of it."""
    rate = report.frames_per_second
    account = f"{report.clean} clean + {report.defective} defective + {len(report.dead)} dead"
    console.print()
    tell(console, "account", f"{counted(report.taken, 'frame')} in = {account}: every frame accounted for")
    speed = "" if rate is None else f", {rate:.1f} frames/s with engines, broker and replay on the same cores"
    tell(console, "speed", f"{report.duration_s:.1f} s{speed}")
    console.print(_class_table(report))
    sums = total({row.class_id: row.counts for row in report.classes if row.counts is not None})
    if report.has_truth and sums.found_share is not None:
        invented = "" if sums.invented_per_100_found is None else f" ({sums.invented_per_100_found:.1f} per 100 found)"
        tell(
            console,
            "truth",
            f"{sums.found} of {sums.true} true regions found ({100 * sums.found_share:.1f} %), "
            f"{sums.missed} missed, {sums.invented} invented{invented}",
        )
    tell(console, "report", f"{output / 'report.html'}, pictures in {output / 'pictures'}")


def _class_table(report: Report) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("class")
    columns = ("frames", "area px", *(("true", "found", "missed", "invented") if report.has_truth else ()))
    for column in columns:
        table.add_column(column, justify="right")
    for row in report.classes:
        name = Text.assemble(("■ ", class_colour(row.class_id).css), f"{row.class_id} {row.name}")
        table.add_row(name, *_figures(row))
    return table


def _figures(row: ClassRow) -> list[str]:
    figures = [row.frames, row.area_px]
    if row.counts is not None:
        figures += [row.counts.true, row.counts.found, row.counts.missed, row.counts.invented]
    return [str(figure) for figure in figures]
