"""Progress of a command, on standard error: a bar on a terminal, else a line every few seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from daemon.wording import counted

LINE_INTERVAL_S = 5.0


class Reporter(Protocol):
    """Told how far the work is."""

    def __call__(self, done: int) -> None:
        """``done`` frames of the total."""


@contextmanager
def progress(what: str, total: int | None, stream: TextIO | None = None) -> Iterator[Reporter]:
    """Show how many frames are done while the context lasts; ``total`` None where the end is open."""
    stream = stream or sys.stderr
    if stream.isatty():
        with _bar(what, total, stream) as reporter:
            yield reporter
    else:
        lines = _Lines(what, total, stream)
        yield lines


@contextmanager
def _bar(what: str, total: int | None, stream: TextIO) -> Iterator[Reporter]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        *(() if total is None else (TimeRemainingColumn(),)),
    )
    started = time.monotonic()
    with Progress(*columns, console=Console(file=stream)) as bar:
        task = bar.add_task(what, total=total, rate="")

        def report(done: int) -> None:
            bar.update(task, completed=done, rate=_rate(done, time.monotonic() - started))

        yield report


class _Lines:
    def __init__(self, what: str, total: int | None, stream: TextIO) -> None:
        self._what = what
        self._total = total
        self._stream = stream
        self._started = self._told = time.monotonic()

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if now - self._told >= LINE_INTERVAL_S:
            self._told = now
            done_of = counted(done, "frame") if self._total is None else f"{done} of {counted(self._total, 'frame')}"
            click.echo(f"{self._what}: {done_of}, {_rate(done, now - self._started)}", file=self._stream)


def _rate(done: int, seconds: float) -> str:
    return f"{done / seconds:.0f} frames/s" if seconds > 0 else ""
