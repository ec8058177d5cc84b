"""The counted stream: a producer that writes numbered frames and keeps the ledger of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from daemon.delivery.base import dispose
from tests.faults.ledger import Ledger, kind_of, value_of

NUMBER = "frame-id"
"""The header that carries a frame's number."""

PATIENCE_MS = 600_000
"""How long a frame is tried: longer than any fault lasts, so that no frame stays in doubt without need."""

AHEAD = 600
"""Frames that the stream is ahead of their verdicts at most. The service always has something to do, and the backlog of
a fault is worked off within a second or two: the client reads one partition after the other, and the time until the
last of them goes on would be that of the backlog."""

LOOK_S = 0.01


class Stream:
    """Sends frames from 0 on until ``frames`` of them are sent or :meth:`stop` is called. Thread ``stream``.

    ``rate`` is frames a second, 0 for as fast as their verdicts come; ``judged`` tells how far those are.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        ledger: Ledger,
        judged: Callable[[], float],
        *,
        seed: int,
        partitions: int,
        frames: int,
        rate: float,
        poisoned: bool,
    ) -> None:
        self._topic = topic
        self._ledger = ledger
        self._judged = judged
        self._seed = seed
        self._partitions = partitions
        self._frames = frames
        self._rate = rate
        self._poisoned = poisoned
        self._stop = threading.Event()
        self.number = 0
        self._producer = KafkaProducer(
            bootstrap_servers=bootstrap,
            client_id="counted-stream",
            linger_ms=5,
            max_block_ms=PATIENCE_MS,
            delivery_timeout_ms=PATIENCE_MS,
            request_timeout_ms=10_000,
            reconnect_backoff_max_ms=1_000,
            allow_auto_create_topics=False,
        )
        self._thread = threading.Thread(target=self._feed, name="stream")
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether no more frames come; those that were sent may still wait for their acknowledgement."""
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Send no more frames, and wait until each that was sent is acknowledged or given up."""
        self._stop.set()
        self._thread.join()

    def _feed(self) -> None:
        started = time.monotonic()
        try:
            while self.number < self._frames and not self._stop.is_set():
                early_s = started + self.number / self._rate - time.monotonic() if self._rate else 0.0
                if early_s > 0 or self.number - self._judged() > AHEAD:
                    self._stop.wait(max(early_s, LOOK_S))
                    continue
                self._send(self.number)
                self.number += 1
            self._producer.flush(PATIENCE_MS / 1000)
        finally:
            # Not its own close, which would wait without an end for a broker that did not come back.
            dispose(self._producer)

    def _send(self, number: int) -> None:
        kind = kind_of(self._seed, number, poisoned=self._poisoned)
        partition = number % self._partitions
        self._ledger.sent(number, kind)
        try:
            future = self._producer.send(
                self._topic,
                value_of(kind),
                key=b"cam-%d" % partition,
                partition=partition,
                headers=[(NUMBER, b"%d" % number)],
            )
        except KafkaError:
            self._ledger.doubt(number)
            return
        future.add_callback(self._acknowledged, number)
        future.add_errback(self._failed, number)

    def _acknowledged(self, number: int, written: Any) -> None:
        self._ledger.acknowledge(number, (written.partition, written.offset))

    def _failed(self, number: int, _error: BaseException) -> None:
        self._ledger.doubt(number)
