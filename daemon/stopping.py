"""Ctrl-C and SIGTERM as a request that a command can see between two frames, and SIGTERM as an exception."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM came, and unwinds what runs as Ctrl-C does."""


def unwind_on_sigterm() -> None:
    """From now on SIGTERM raises :class:`Terminated` in the main thread.

    For a command that runs other processes in sessions of their own: without it they would outlive the command.
    """

    def unwind(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, unwind)


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """An event that SIGINT or SIGTERM sets while the context lasts; a second signal ends the process as it would have.

    Outside the main thread, where Python allows no handlers, the event is never set.
    """
    stop = threading.Event()
    before: dict[signal.Signals, object] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal itself returned

    def ask(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        restore()

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, ask)
    try:
        yield stop
    finally:
        restore()
