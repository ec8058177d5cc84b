"""When a line commits: at once while it keeps up, in larger steps while it is behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from kafka import TopicPartition

from daemon.delivery import Delivery, Offsets
from daemon.frames import Frame, FrameMeta
from daemon.line import Line, LinePolicy
from daemon.metrics import Metrics
from daemon.pipeline import Image, Pipeline
from engines.results import Box, Defect, Inspection

CAPACITY = 64
PATIENCE_S = 10.0
CLEAN = Inspection(8, 4, 0.1, None, ())
DEFECTIVE = Inspection(8, 4, 0.9, (0.9,), (Defect(1, "pits", 0.9, 1, Box(0, 0, 1, 1), "1 1"),))


class Inspector:
    """Finds the same on every frame; only the first one is inspected before :attr:`go` is set."""

    slots = 1
    max_frames = 1

    def __init__(self, found: Inspection) -> None:
        self.go = threading.Event()
        self._first = True
        self._found = found

    def inspect(self, frames: Sequence[Image]) -> list[Inspection]:
        if not self._first:
            self.go.wait(PATIENCE_S)
        self._first = False
        return [self._found] * len(frames)


class Source:
    """Hands over the frames it is given, as many at a time as are asked for."""

    rebalances = 1

    def __init__(self, frames: int) -> None:
        self._left = [
            (Frame(FrameMeta("f", 0, number, 0, 0, None, "cam", None, None, None, ()), b"x"), 0)
            for number in range(frames)
        ]
        self.polls = 0

    def poll(self, timeout_s: float, max_frames: int) -> list[tuple[Frame, int]]:
        taken, self._left = self._left[:max_frames], self._left[max_frames:]
        if not taken:
            time.sleep(timeout_s)
        self.polls += 1
        return taken

    def open(self) -> None: ...

    def close(self) -> None: ...

    def keep_membership(self) -> list[tuple[Frame, int]]:
        self.polls += 1
        return []

    def owns(self, partition: TopicPartition, epoch: int) -> bool:
        return True

    def lag(self) -> dict[int, int]:
        return {}


class Recorder(Delivery):
    """Keeps what is committed."""

    commits_while_moving = True

    def __init__(self) -> None:
        self.sent = threading.Event()
        self.committed = threading.Event()
        self.commits: list[int] = []

    def open(self) -> None: ...

    def send(self, topic: str, key: bytes | None, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        self.sent.set()

    def commit(self, offsets: Offsets) -> None:
        self.commits.append(offsets[TopicPartition("f", 0)])
        self.committed.set()

    def abort(self) -> None: ...

    def close(self) -> None: ...


@contextmanager
def running(frames: int, found: Inspection = DEFECTIVE) -> Iterator[tuple[Inspector, Source, Recorder]]:
    inspector, source, delivery = Inspector(found), Source(frames), Recorder()

    def source_of(before_move: Callable[[], None], after_loss: Callable[[], None]) -> Any:
        return source

    policy = LinePolicy(
        events_topic="e",
        dead_topic="d",
        publish_all=False,
        publish_delay_s=0.001,
        commit_interval_s=60.0,
        commit_max_frames=10_000,
        max_message_bytes=1_000_000,
    )
    pipeline = Pipeline(
        inspector,
        lambda _: np.zeros((4, 8), np.uint8),
        decode_threads=1,
        max_frames=1,
        max_wait_s=0.0,
        capacity=CAPACITY,
    )
    with pipeline:
        line = Line(source_of, pipeline, delivery, lambda *_: (b"event", []), policy, Metrics())
        thread = threading.Thread(target=line.run, name="line")
        thread.start()
        try:
            yield inspector, source, delivery
        finally:
            inspector.go.set()
            line.stop()
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


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
