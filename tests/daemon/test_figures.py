from __future__ import annotations

import time
from collections import Counter
from types import SimpleNamespace

from structlog.testing import capture_logs

from daemon.accounting import Account
from daemon.figures import FrameAges
from daemon.frames import Frame, FrameMeta
from daemon.service import _figures, _log_account
from tests.support.line_doubles import CLEAN, Inspector, Recorder, Source, line_among


def test_the_sum_is_exact_even_if_the_line_moves_on_meanwhile() -> None:
    account = Account(taken=10, clean=4, defective=1, dead=Counter(empty=1), returned=2)
    line = SimpleNamespace(
        account=account,
        in_flight=5,
        commits=1,
        aborts=0,
        rebalances=1,
        gone=0,
        lag={},
        ages=lambda: FrameAges(unread=3.5),
        bytes_held=7,
    )
    figures = _figures(line)
    account.taken += 1
    assert figures.account.balances(figures.in_flight)
    assert (figures.in_flight, figures.oldest_age_s, figures.unread_age_s, figures.bytes_held) == (2, None, 3.5, 7)


def appended(seconds_ago: float, offset: int) -> Frame:
    appended_ms = round((time.time() - seconds_ago) * 1000)
    return Frame(FrameMeta("f", 0, offset, appended_ms, 0, None, "cam", None, None, None, ()), b"x")


def test_a_frame_is_as_old_as_its_append_until_its_verdict_is_committed() -> None:
    inspector = Inspector(CLEAN)
    inspector.go.set()
    with line_among(Source(0), Recorder(), inspector) as line:
        assert line.ages() == FrameAges(None, None)
        line._take([(appended(60, 0), 0), (appended(90, 1), 0)])
        assert 89 < (line.ages().in_flight or 0) < 120
        while line._pipeline.in_flight:
            line._deliver(line._pipeline.take(1.0))
        assert 89 < (line.ages().in_flight or 0) < 120
        line._commit()
        assert line.ages() == FrameAges(None, None)


def test_a_frame_without_a_time_has_no_age() -> None:
    with line_among(Source(0), Recorder(), Inspector(CLEAN)) as line:
        frame = Frame(FrameMeta("f", 0, 0, -1, 0, None, "cam", None, None, None, ()), b"x")
        line._take([(frame, 0)])
        assert line.ages().in_flight is None


def test_the_account_of_a_run_without_frames_tells_no_time_of_work() -> None:
    with line_among(Source(0), Recorder(), Inspector(CLEAN)) as line:
        with capture_logs() as idle:
            _log_account(line)
        line._stopwatch.begin()
        line._stopwatch.lap()
        with capture_logs() as busy:
            _log_account(line)
    assert [(entry["event"], entry["seconds"], entry["cpu_seconds"]) for entry in idle] == [("account", None, None)]
    assert busy[0]["seconds"] >= 0
    assert busy[0]["cpu_seconds"] >= 0
