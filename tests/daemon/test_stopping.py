"""Signals as a request."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import pytest

from daemon import stopping
from daemon.stopping import stop_on_signal, unwind_on_sigint, unwind_on_sigterm, unwinding_by


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_does_what_it_always_did(number: signal.Signals):
    came: list[int] = []
    before = signal.signal(number, lambda received, _: came.append(received))
    try:
        with stop_on_signal() as stop:
            assert not stop.is_set()
            os.kill(os.getpid(), number)
            assert stop.wait(5)
            assert came == []
            os.kill(os.getpid(), number)
            assert came == [number]
    finally:
        signal.signal(number, before)


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with stop_on_signal():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_in_another_thread_no_signal_is_touched():
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def work() -> None:
        with stop_on_signal() as stop:
            seen.extend((stop.is_set(), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work, name="worker")
    thread.start()
    thread.join()
    assert seen == [False, before]


@pytest.mark.parametrize(("unwind", "number"), [(unwind_on_sigint, signal.SIGINT), (unwind_on_sigterm, signal.SIGTERM)])
def test_a_signal_unwinds_what_runs_and_is_known_afterwards(
    unwind: Callable[[], None], number: signal.Signals, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(stopping, "_unwinding_by", None)
    before = signal.getsignal(number)
    try:
        unwind()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    finally:
        signal.signal(number, before)
    assert unwinding_by() == number


def test_an_interrupt_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        unwind_on_sigint()
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
