"""The line among doubles: a source that hands over frames, an inspector that waits, a delivery that keeps commits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from kafka import TopicPartition

from daemon.delivery import Delivery, Offsets
from daemon.frames import Frame, FrameMeta
from daemon.line import Line
from daemon.metrics import Metrics
from daemon.outbox import Outbox, OutboxPolicy
from daemon.pipeline import Image, Pipeline
from engines.results import Box, Defect, Inspection

CAPACITY = 64
PATIENCE_S = 10.0
SESSION_S = 1.0
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

    before_move: Callable[[], None]
    after_loss: Callable[[str], None]

    rebalances = 1
    gone = 0

    def __init__(self, frames: int) -> None:
        self._left = [
            (Frame(FrameMeta("f", 0, number, 0, 0, None, "cam", None, None, None, ()), b"x"), 0)
            for number in range(frames)
        ]
        self.polls = 0
        self.closed = False
        self.starts_over = 0
        self.rejoins = 0

    def poll(self, timeout_s: float, max_frames: int) -> list[tuple[Frame, int]]:
        taken, self._left = self._left[:max_frames], self._left[max_frames:]
        if not taken:
            time.sleep(timeout_s)
        self.polls += 1
        return taken

    def open(self) -> None: ...

    def close(self) -> None:
        self.closed = True

    def start_over(self) -> None:
        self.starts_over += 1

    def rejoin(self) -> None:
        self.rejoins += 1

    def keep_membership(self) -> list[tuple[Frame, int]]:
        self.polls += 1
        return []

    def owns(self, partition: TopicPartition, epoch: int) -> bool:
        return True

    def ask_for_ends(self) -> None: ...

    def take_starts(self) -> dict[TopicPartition, int]:
        return {}

    def marks_of(self, partitions: Iterable[TopicPartition]) -> set[str]:
        return set()

    def trouble(self) -> str | None:
        return None

    def lag(self) -> dict[int, int]:
        return {}

    def unread_since_ms(self, lag: dict[int, int]) -> int | None:
        return None


class Recorder(Delivery):
    """Keeps what is committed."""

    commits_while_moving = True

    def __init__(self) -> None:
        self.sent = threading.Event()
        self.committed = threading.Event()
        self.commits: list[int] = []

    def open(self) -> None: ...

    def send(self, topic: str, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]) -> None:
        self.sent.set()

    def commit(self, offsets: Offsets, mark: str = "") -> None:
        self.commits.append(offsets[TopicPartition("f", 0)])
        self.committed.set()

    def abort(self) -> None: ...

    def close(self) -> None: ...


@contextmanager
def line_among(
    source: Any,
    delivery: Delivery,
    inspector: Inspector,
    capacity: int = CAPACITY,
    check_broker: Callable[[], None] = lambda: None,
    check_device: Callable[[], None] = lambda: None,
) -> Iterator[Line]:
    """A line over these three, its pipeline open; ``source`` is told what to call when partitions move or are lost."""

    def source_of(before_move: Callable[[], None], after_loss: Callable[[str], None]) -> Any:
        source.before_move, source.after_loss = before_move, after_loss
        return source

    policy = OutboxPolicy(
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
        lambda _: 32,
        decode_threads=1,
        max_frames=1,
        max_wait_s=0.0,
        capacity=capacity,
        max_bytes=1_000_000,
    )
    with pipeline:
        metrics = Metrics()
        outbox = Outbox(delivery, lambda *_: (b"event", []), policy, metrics)
        yield Line(
            source_of,
            pipeline,
            outbox,
            metrics,
            instance="i",
            session_s=SESSION_S,
            check_broker=check_broker,
            check_device=check_device,
        )


@contextmanager
def running(
    frames: int, found: Inspection = DEFECTIVE, capacity: int = CAPACITY
) -> Iterator[tuple[Inspector, Source, Recorder]]:
    inspector, source, delivery = Inspector(found), Source(frames), Recorder()

    with line_among(source, delivery, inspector, capacity) as line:
        thread = threading.Thread(target=line.run, name="line")
        thread.start()
        try:
            yield inspector, source, delivery
        finally:
            inspector.go.set()
            line.stop()
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
