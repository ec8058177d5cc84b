"""Signals as a request."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from daemon.stopping import Terminated, stop_on_signal, unwind_on_sigterm


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


def test_a_sigterm_unwinds_what_runs():
    before = signal.getsignal(signal.SIGTERM)
    try:
        unwind_on_sigterm()
        with pytest.raises(Terminated):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
