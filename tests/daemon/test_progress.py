"""Progress where there is no terminal, and where there is one."""

from __future__ import annotations

import io

import pytest

from daemon import progress as module
from daemon.progress import LINE_INTERVAL_S, progress


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_without_a_terminal_a_line_every_few_seconds(clock: Clock):
    stream = io.StringIO()
    with progress("replay", 80, stream) as report:
        for done in range(1, 81):
            clock.now += LINE_INTERVAL_S / 40
            report(done)
    assert stream.getvalue().splitlines() == [
        "replay: 40 of 80 frames, 8 frames/s",
        "replay: 80 of 80 frames, 8 frames/s",
    ]


def test_an_open_end_has_no_total(clock: Clock):
    stream = io.StringIO()
    with progress("record", None, stream) as report:
        clock.now += LINE_INTERVAL_S
        report(20)
    assert stream.getvalue() == "record: 20 frames, 4 frames/s\n"


def test_one_frame_is_told_in_the_singular(clock: Clock):
    stream = io.StringIO()
    for total in (None, 1):
        with progress("record", total, stream) as report:
            clock.now += LINE_INTERVAL_S
            report(1)
    assert [line.split(",")[0] for line in stream.getvalue().splitlines()] == [
        "record: 1 frame",
        "record: 1 of 1 frame",
    ]


def test_short_work_says_nothing(clock: Clock):
    stream = io.StringIO()
    with progress("replay", 3, stream) as report:
        report(3)
    assert stream.getvalue() == ""


@pytest.mark.parametrize("total", [7, None])
def test_on_a_terminal_there_is_a_bar(total: int | None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()
    stream.isatty = lambda: True  # type: ignore[method-assign]
    with progress("replay", total, stream) as report:
        report(7)
    assert "replay" in stream.getvalue()
    assert "7/7" in stream.getvalue() or "7/?" in stream.getvalue()
