"""The way of a frame through the machine: decode, batch, inspect, and out again in the order in which it came.

The owner calls :meth:`Pipeline.put` and :meth:`Pipeline.take` from one thread. In between, decode threads and slot
threads work on the frames out of order; :meth:`Pipeline.take` gives them back in order, so that whoever commits offsets
never has to look for gaps.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Protocol

import numpy as np
import structlog
from numpy.typing import NDArray

from daemon.frames import Frame
from engines.errors import FrameRejectedError, InferenceError
from engines.results import Inspection

Image = NDArray[np.uint8]
Decode = Callable[[Frame], Image]
Measure = Callable[[Frame], int]
"""Bytes that a frame takes once it is decoded; 0 where it will not be."""

log = structlog.get_logger(__name__)


class Inspector(Protocol):
    """What the pipeline asks of a cascade; :class:`engines.cascade.Cascade` is one."""

    @property
    def slots(self) -> int:
        """How many threads may inspect at once."""

    @property
    def max_frames(self) -> int:
        """The largest batch."""

    def inspect(self, frames: Sequence[Image]) -> list[Inspection]:
        """One result per frame. Raises InferenceError for this batch, DeviceError for good."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a frame could not be inspected: a short reason of a fixed set, and a sentence for a person."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Finished:
    """A frame on its way out: ``epoch`` is the one it was put with, ``inspected_at_ms`` is since 1970, UTC."""

    frame: Frame
    epoch: int
    outcome: Inspection | Rejection
    inspected_at_ms: int


class Observer(Protocol):
    """Hears how long things took, from any thread."""

    def decoded(self, seconds: float) -> None:
        """One frame was decoded, or refused."""

    def inspected(self, frames: int, seconds: float) -> None:
        """One batch went through the cascade."""


class _Ticket:
    """A frame's place in the order. Each field is written by one thread at a time: whoever holds the ticket."""

    __slots__ = ("arrived", "decoded_bytes", "epoch", "finished", "frame", "image")

    def __init__(self, frame: Frame, epoch: int, arrived: float) -> None:
        self.frame = frame
        self.epoch = epoch
        self.arrived = arrived
        self.decoded_bytes = 0
        self.image: Image | None = None
        self.finished: Finished | None = None


class Pipeline:
    """Decodes and inspects frames in threads; a context manager that ends its threads.

    Holds at most ``capacity`` frames and about ``max_bytes``: half of them for frames as they were sent, which
    :attr:`room` keeps to, and half for decoded ones, for which the decode threads wait. A frame that is larger than
    its half goes through alone. Threads are named ``decode-N`` and ``slot-N``.
    """

    def __init__(
        self,
        inspector: Inspector,
        decode: Decode,
        measure: Measure,
        *,
        decode_threads: int,
        max_frames: int,
        max_wait_s: float,
        capacity: int,
        max_bytes: int,
        observer: Observer | None = None,
    ) -> None:
        self._inspector = inspector
        self._decode = decode
        self._measure = measure
        self._max_frames = min(max_frames, inspector.max_frames)
        self._max_wait_s = max_wait_s
        self.capacity = capacity
        self._half_bytes = max_bytes // 2
        self._observer = observer

        self._encoded: SimpleQueue[_Ticket | None] = SimpleQueue()
        self._undecoded = 0
        self._decoded: deque[_Ticket] = deque()
        self._decoded_changed = threading.Condition()
        self._in_order: deque[_Ticket] = deque()
        self._encoded_bytes = 0
        self._decoded_bytes = 0
        self._decoded_fewer = threading.Condition()
        self._progress = threading.Condition()
        self._failure: BaseException | None = None
        self._closing = False

        workers = [(f"decode-{number}", self._decode_frames) for number in range(decode_threads)]
        workers += [(f"slot-{number}", self._inspect_batches) for number in range(inspector.slots)]
        self._threads = [threading.Thread(target=self._guard, args=(work,), name=name) for name, work in workers]
        self._decode_threads = decode_threads
        for thread in self._threads:
            thread.start()

    # ------------------------------------------------------------------ the owner's side

    @property
    def in_flight(self) -> int:
        """Frames put and not yet taken."""
        return len(self._in_order)

    @property
    def room(self) -> int:
        """How many frames may be put now."""
        if self._in_order and self._encoded_bytes >= self._half_bytes:
            return 0
        return max(0, self.capacity - len(self._in_order))

    @property
    def half_full(self) -> bool:
        """Whether half of the frames or of their bytes that may be put are here: they come faster than they leave."""
        return self.in_flight >= self.capacity // 2 or self._encoded_bytes >= self._half_bytes // 2

    @property
    def bytes_held(self) -> int:
        """Bytes of the frames in flight, as they were sent and decoded."""
        return self._encoded_bytes + self._decoded_bytes

    @property
    def oldest_ms(self) -> int | None:
        """When the frame in flight whose record was appended first was (ms since 1970); None where none has a time.
        Partitions mix here, and one may be far behind another."""
        # A copy, since another thread may ask.
        times = (each.frame.meta.timestamp_ms for each in tuple(self._in_order))
        return min((appended_ms for appended_ms in times if appended_ms >= 0), default=None)

    def put(self, frame: Frame, epoch: int = 0) -> None:
        """Take in a frame. The caller keeps to :attr:`room`."""
        ticket = _Ticket(frame, epoch, time.monotonic())
        self._in_order.append(ticket)
        self._encoded_bytes += len(frame.value or b"")
        with self._decoded_changed:
            self._undecoded += 1
        self._encoded.put(ticket)

    def take(self, timeout_s: float = 0.0) -> list[Finished]:
        """All frames that have finished, up to the first that has not; waits up to ``timeout_s`` for one.

        Raises whatever ended a worker, a :class:`engines.errors.DeviceError` above all.
        """
        with self._progress:
            if timeout_s > 0 and self._in_order:
                self._progress.wait_for(self._has_finished, timeout_s)
            if self._failure is not None:
                raise self._failure
        taken = []
        while self._in_order and (finished := self._in_order[0].finished) is not None:
            taken.append(finished)
            self._in_order.popleft()
            self._encoded_bytes -= len(finished.frame.value or b"")
        return taken

    def close(self) -> None:
        """End the threads. Frames still in flight are dropped: their offsets were never committed."""
        with self._decoded_changed:
            self._closing = True
            self._decoded_changed.notify_all()
        with self._decoded_fewer:
            self._decoded_fewer.notify_all()
        for _ in range(self._decode_threads):
            self._encoded.put(None)
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _has_finished(self) -> bool:
        return self._failure is not None or bool(self._in_order and self._in_order[0].finished is not None)

    # ------------------------------------------------------------------ the workers' side

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - it is handed to the owner, who raises it
            with self._progress:
                self._failure = error
                self._progress.notify_all()

    def _decode_frames(self) -> None:
        while (ticket := self._encoded.get()) is not None and not self._closing:
            started = time.perf_counter()
            try:
                self._wait_for_room(ticket)
                started = time.perf_counter()
                ticket.image = self._decode(ticket.frame)
            except FrameRejectedError as rejected:
                self._finish([(ticket, Rejection(rejected.reason, rejected.detail))])
            except MemoryError:
                raise
            except Exception as error:
                # A defect of ours, or of a library. Ending here would end every later start at the same frame.
                log.exception("decoding failed", frame=ticket.frame.meta.id)
                self._finish([(ticket, Rejection("undecodable", f"{type(error).__name__}: {error}"))])
            with self._decoded_changed:
                self._undecoded -= 1
                if ticket.image is not None:
                    self._decoded.append(ticket)
                self._decoded_changed.notify()
            if self._observer is not None:
                self._observer.decoded(time.perf_counter() - started)

    def _wait_for_room(self, ticket: _Ticket) -> None:
        """Wait until the frame's pixels have room beside those of the others. Frames that are decoded leave in any
        order, so a frame that is larger than all the room comes to be alone."""
        size = self._measure(ticket.frame)
        with self._decoded_fewer:
            self._decoded_fewer.wait_for(
                lambda: self._closing or not self._decoded_bytes or self._decoded_bytes + size <= self._half_bytes
            )
            self._decoded_bytes += size
        ticket.decoded_bytes = size

    def _inspect_batches(self) -> None:
        while batch := self._next_batch():
            started = time.perf_counter()
            self._finish(self._inspect(batch))
            if self._observer is not None:
                self._observer.inspected(len(batch), time.perf_counter() - started)

    def _next_batch(self) -> list[_Ticket]:
        """A batch that is full, or old enough, or that nothing on its way can fill; empty when the pipeline closes."""
        with self._decoded_changed:
            while not self._closing:
                waiting = len(self._decoded)
                if waiting >= self._max_frames:
                    break
                if waiting:
                    left = self._decoded[0].arrived + self._max_wait_s - time.monotonic()
                    # An idle slot has nothing to gain from waiting for frames that are not here yet.
                    if left <= 0 or not self._undecoded:
                        break
                    self._decoded_changed.wait(left)
                else:
                    self._decoded_changed.wait()
            if self._closing:
                return []
            return [self._decoded.popleft() for _ in range(min(len(self._decoded), self._max_frames))]

    def _inspect(self, batch: list[_Ticket]) -> list[tuple[_Ticket, Inspection | Rejection]]:
        """Inspect a batch; where inference fails, halve it until only the frame that causes it is rejected."""
        try:
            inspections = self._inspector.inspect([ticket.image for ticket in batch if ticket.image is not None])
        except InferenceError as error:
            if len(batch) == 1:
                log.warning("inference failed", frame=batch[0].frame.meta.id, error=str(error))
                return [(batch[0], Rejection("inference", str(error)))]
            middle = len(batch) // 2
            return self._inspect(batch[:middle]) + self._inspect(batch[middle:])
        return list(zip(batch, inspections, strict=True))

    def _finish(self, outcomes: list[tuple[_Ticket, Inspection | Rejection]]) -> None:
        now = time.time_ns() // 1_000_000
        for ticket, outcome in outcomes:
            ticket.image = None
            ticket.finished = Finished(ticket.frame, ticket.epoch, outcome, now)
        with self._decoded_fewer:
            self._decoded_bytes -= sum(ticket.decoded_bytes for ticket, _ in outcomes)
            self._decoded_fewer.notify_all()
        with self._progress:
            self._progress.notify_all()
