"""Ctrl-C and SIGTERM as a request that a command can see between two frames, or as an exception."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_unwinding_by: signal.Signals | None = None


def unwind_on_sigint() -> None:
    """From now on Ctrl-C is known to :func:`unwinding_by`, and raises :class:`KeyboardInterrupt` as ever.

    Does nothing where SIGINT is ignored, as in a shell's background, or outside the main thread, where Python allows no
    handlers.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        _unwind_on(signal.SIGINT)


def unwind_on_sigterm() -> None:
    """From now on SIGTERM raises :class:`KeyboardInterrupt` in the main thread, as Ctrl-C does.

    For a command that runs other processes in sessions of their own: without it they would outlive the command.
    """
    _unwind_on(signal.SIGTERM)


def unwinding_by() -> signal.Signals | None:
    """The signal that has raised :class:`KeyboardInterrupt`; None where none came.

    The exception itself may get lost: native code that is calling back into Python, such as pydantic's, raises an error
    of its own in its place.
    """
    return _unwinding_by


def _unwind_on(number: signal.Signals) -> None:
    if threading.current_thread() is threading.main_thread():
        signal.signal(number, _unwind)


def _unwind(number: int, _frame: FrameType | None) -> None:
    global _unwinding_by
    _unwinding_by = signal.Signals(number)
    raise KeyboardInterrupt


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
