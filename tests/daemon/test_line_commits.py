"""When a line commits: at once while it keeps up, in larger steps while it is behind."""

from __future__ import annotations

import time

import pytest

from tests.support.line_doubles import CAPACITY, CLEAN, PATIENCE_S, Source, running


def wait_for_polls(source: Source, more: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    wanted = source.polls + more
    while source.polls < wanted:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_an_event_is_committed_at_once_while_the_line_keeps_up() -> None:
    with running(frames=CAPACITY // 2) as (_, _, delivery):
        assert delivery.committed.wait(PATIENCE_S)
        assert delivery.commits[0] == 1


@pytest.mark.timeout(30)
def test_events_of_a_line_that_is_behind_share_a_commit() -> None:
    with running(frames=CAPACITY) as (inspector, source, delivery):
        assert delivery.sent.wait(PATIENCE_S)
        wait_for_polls(source, 1)
        assert not delivery.commits
        inspector.go.set()
        assert delivery.committed.wait(PATIENCE_S)
    assert delivery.commits[0] > CAPACITY // 2 - 1
    assert delivery.commits[-1] == CAPACITY


@pytest.mark.timeout(30)
def test_a_backlog_that_is_worked_off_does_not_wait_for_the_interval() -> None:
    with running(frames=CAPACITY, found=CLEAN) as (inspector, _, delivery):
        inspector.go.set()
        assert delivery.committed.wait(PATIENCE_S)
        assert delivery.commits == [CAPACITY]


@pytest.mark.timeout(30)
def test_clean_frames_of_a_line_that_keeps_up_share_a_commit() -> None:
    with running(frames=CAPACITY // 4, found=CLEAN) as (inspector, source, delivery):
        inspector.go.set()
        wait_for_polls(source, 3)
        assert not delivery.commits


@pytest.mark.timeout(30)
def test_a_pipeline_that_holds_few_frames_takes_all_of_them() -> None:
    with running(frames=20, capacity=3) as (inspector, _, delivery):
        inspector.go.set()
        deadline = time.monotonic() + PATIENCE_S
        while not delivery.commits or delivery.commits[-1] < 20:
            assert time.monotonic() < deadline
            time.sleep(0.001)
