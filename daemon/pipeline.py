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

from daemon.frames import Frame, FrameMeta
from engines.errors import FrameRejectedError, InferenceError
from engines.results import Inspection

Image = NDArray[np.uint8]
Decode = Callable[[Frame], Image]

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

    __slots__ = ("arrived", "epoch", "finished", "frame", "image")

    def __init__(self, frame: Frame, epoch: int, arrived: float) -> None:
        self.frame = frame
        self.epoch = epoch
        self.arrived = arrived
        self.image: Image | None = None
        self.finished: Finished | None = None


class Pipeline:
    """Decodes and inspects frames in threads; a context manager that ends its threads.

    Holds at most ``capacity`` frames. Threads are named ``decode-N`` and ``slot-N``.
    """

    def __init__(
        self,
        inspector: Inspector,
        decode: Decode,
        *,
        decode_threads: int,
        max_frames: int,
        max_wait_s: float,
        capacity: int,
        observer: Observer | None = None,
    ) -> None:
        self._inspector = inspector
        self._decode = decode
        self._max_frames = min(max_frames, inspector.max_frames)
        self._max_wait_s = max_wait_s
        self.capacity = capacity
        self._observer = observer

        self._encoded: SimpleQueue[_Ticket | None] = SimpleQueue()
        self._undecoded = 0
        self._decoded: deque[_Ticket] = deque()
        self._decoded_changed = threading.Condition()
        self._in_order: deque[_Ticket] = deque()
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
        return max(0, self.capacity - len(self._in_order))

    @property
    def oldest(self) -> FrameMeta | None:
        """The oldest frame in flight; None where there is none."""
        try:
            return self._in_order[0].frame.meta
        except IndexError:
            return None

    def put(self, frame: Frame, epoch: int = 0) -> None:
        """Take in a frame. The caller keeps to :attr:`room`."""
        ticket = _Ticket(frame, epoch, time.monotonic())
        self._in_order.append(ticket)
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
        return taken

    def close(self) -> None:
        """End the threads. Frames still in flight are dropped: their offsets were never committed."""
        with self._decoded_changed:
            self._closing = True
            self._decoded_changed.notify_all()
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
        with self._progress:
            self._progress.notify_all()
