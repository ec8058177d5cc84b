"""The line: reads frames, has them inspected, and hands what was found to the outbox.

One thread owns the consumer and the outbox. It never waits for one thing while another is due: with
frames in flight it polls briefly, with a full pipeline it waits for the pipeline, and while the broker is well a commit
is the only call that may take longer, which the frames in the pipeline bridge.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog
from kafka import errors as kafka_errors

from daemon.accounting import Account
from daemon.delivery import CommitPostponed, DeliveryAborted
from daemon.errors import UncommittedError
from daemon.figures import FrameAges, Span, Stopwatch, age_s
from daemon.frames import Frame
from daemon.metrics import Metrics
from daemon.outbox import Outbox
from daemon.pipeline import Finished, Pipeline
from daemon.readiness import CheckBroker, Readiness
from daemon.recovery import POSTPONE_S, Backoff, Postponement, Recovery
from daemon.source import FrameSource
from engines.errors import MillwatchError

log = structlog.get_logger(__name__)

POLL_IDLE_S = 0.2
"""Longest wait for a frame on an idle line: how long a stop may go unnoticed."""

RESULTS_S = 0.010
"""Longest wait for a result before the next look for frames. A poll costs over 1 ms of processor time, since the client
does its work in a thread of its own."""

POLL_BUSY_S = 0.003
"""Longest wait for a frame while others are being inspected: what polling may add to their latency."""

MEMBERSHIP_S = 1.0
"""With a full pipeline, how often the group hears that this instance is alive."""

MOVE_S = 1.0
"""How long partitions may be held back while the frames read from them are finished. Heartbeats rest meanwhile."""

LOOK_S = 1.0
"""How often the lag, and whether the broker answers, is looked at."""

PROBE_S = 5.0
"""How often a device without work is asked whether it answers. One at work tells by what it finds."""

MAX_TAKE = 32
"""Frames taken from the consumer at once: few enough that a result never waits long behind them."""


class Line:
    """The run loop. The pipeline is open; it, the source and the delivery belong to the thread that runs the line."""

    def __init__(
        self,
        source_of: Callable[[Callable[[], None], Callable[[str], None]], FrameSource],
        pipeline: Pipeline,
        outbox: Outbox,
        metrics: Metrics,
        *,
        instance: str,
        session_s: float,
        check_broker: CheckBroker = lambda: None,
        check_device: Callable[[], None] = lambda: None,
    ) -> None:
        """``source_of`` makes the source from what to do before partitions move and, with the reason, after what was
        read has ceased to count; ``instance`` is this one's name, for the message that says another one has taken it,
        and ``session_s`` how long, in seconds, the group waits for a member that is silent. ``check_broker`` finds out
        why the broker gives trouble, ``check_device`` raises DeviceError where the device does not answer."""
        self._source = source_of(self._before_move, self._after_loss)
        self._pipeline = pipeline
        self._outbox = outbox
        self._metrics = metrics
        self._postponement = Postponement(session_s)
        # A pipeline that holds fewer takes fewer at once: waiting for more room than there is would never end.
        self._take_at_once = min(MAX_TAKE, pipeline.capacity)
        self._backoff = Backoff()
        self.aborts = 0
        self.lag: dict[int, int] = {}
        self._unread_since_ms: int | None = None
        self._stopwatch = Stopwatch()
        self._looked_at = 0.0
        self._check_device = check_device
        self._probed_at = time.monotonic()
        self._readiness = Readiness(check_broker)
        self._stop = threading.Event()
        self._recovery = Recovery(self._source, outbox, self._readiness, self._stop, instance)
        self._more_at_hand = False
        self._backlog = False
        self._last_frame_at = time.monotonic()
        self._abort_due: str | None = None
        self._failure: Exception | None = None

    # ------------------------------------------------------------------ seen from other threads

    def stop(self) -> None:
        """Ask the line to take no more frames, finish those in hand, commit and end."""
        self._stop.set()

    @property
    def account(self) -> Account:
        """What has become of the frames taken; other threads take snapshots."""
        return self._outbox.account

    @property
    def commits(self) -> int:
        """How often results were committed."""
        return self._outbox.commits

    @property
    def in_flight(self) -> int:
        """Frames taken whose verdicts are not committed yet."""
        return self._pipeline.in_flight + self._outbox.frames

    def ages(self) -> FrameAges:
        """How long frames have been on the topic."""
        return FrameAges(age_s(self._pipeline.oldest_ms, self._outbox.oldest_ms), age_s(self._unread_since_ms))

    @property
    def span(self) -> Span | None:
        """How long the line has worked; None where it had nothing to do."""
        return self._stopwatch.span

    @property
    def bytes_held(self) -> int:
        """Bytes of the frames in the pipeline."""
        return self._pipeline.bytes_held

    @property
    def rebalances(self) -> int:
        """How often partitions were assigned."""
        return self._source.rebalances

    @property
    def gone(self) -> int:
        """Frames that were deleted before they were read."""
        return self._source.gone

    def readiness(self) -> tuple[bool, str]:
        """Whether frames are being taken or would be, and why not."""
        return self._readiness.told()

    # ------------------------------------------------------------------ the loop

    def run(self, until_idle_s: float | None = None) -> None:
        """Run until :meth:`stop`, or until no frame has come for ``until_idle_s`` seconds; then drain and commit.

        Raises FencedError, BrokerError, UncommittedError, and what ended the pipeline.
        """
        try:
            self._reopen(self._source.open)
            while not self._stop.is_set() and not self._idle(until_idle_s):
                self._guarded(self._step)
            while self.in_flight:
                self._guarded(self._drain)
        except MillwatchError as error:
            # Told while the line gives its partitions back and the engines are closed: the last that is heard of it.
            self._readiness.waits(str(error))
            raise
        finally:
            self._source.close()
        if not self.account.balances(0):
            raise UncommittedError(f"the account does not add up: {self.account}")

    def _step(self) -> None:
        self._raise_what_is_due()
        full = self._pipeline.room < self._take_at_once
        if full or (self._pipeline.in_flight and not self._more_at_hand):
            self._deliver(self._pipeline.take(self._until_due(MEMBERSHIP_S if full else RESULTS_S)))
        if self._pipeline.room >= self._take_at_once:
            longest_s = POLL_BUSY_S if self._pipeline.in_flight else POLL_IDLE_S
            polled = self._source.poll(self._until_due(longest_s), self._take_at_once)
            self._more_at_hand = len(polled) == self._take_at_once
            self._take(polled)
        elif time.monotonic() - self._readiness.polled_at > MEMBERSHIP_S:
            self._take(self._source.keep_membership())
        self._commit_if_due()
        if self._readiness.polled_at - self._looked_at > LOOK_S:
            self._looked_at = self._readiness.polled_at
            if self._behind:
                self._source.ask_for_ends()
            self.lag = self._source.lag()
            self._unread_since_ms = self._source.unread_since_ms(self.lag)
            self._readiness.look(self._source.trouble())
            if not self._pipeline.in_flight and self._looked_at - self._probed_at > PROBE_S:
                self._probed_at = self._looked_at
                self._check_device()

    def _drain(self) -> None:
        """Finish what is in hand. The group hears of it, since a commit may have to wait for a rebalance."""
        self._readiness.waits("the line is draining")
        self._deliver(self._pipeline.take(POSTPONE_S))
        self._take(self._source.keep_membership())
        if not self._pipeline.in_flight and time.monotonic() >= self._postponement.not_before:
            self._commit()

    def _idle(self, until_idle_s: float | None) -> bool:
        if until_idle_s is None or self.in_flight:
            return False
        if not self._source.rebalances:
            # The group has not answered yet: no frame could have come.
            self._last_frame_at = time.monotonic()
        return time.monotonic() - self._last_frame_at > until_idle_s

    def _take(self, polled: list[tuple[Frame, int]]) -> None:
        self._readiness.polled()
        self._outbox.begin(self._source.take_starts())
        if polled:
            self._last_frame_at = self._readiness.polled_at
            self._stopwatch.begin()
            # Counted before they are put: a frame that is in flight and not taken would be one too many.
            self.account.taken += len(polled)
            for frame, epoch in polled:
                self._pipeline.put(frame, epoch)
                self._metrics.bytes_taken.inc(len(frame.value or b""))
                if frame.meta.malformed:
                    self._metrics.malformed_headers.inc(len(frame.meta.malformed))
            self._backlog |= self._behind

    # ------------------------------------------------------------------ commits

    def _due_in(self) -> float:
        """Seconds until the next commit is due; infinite where nothing waits for one."""
        worked_off = self._backlog and not self._pipeline.in_flight and not self._more_at_hand
        due = self._outbox.due_at(behind=self._behind, worked_off=worked_off)
        return max(0.0, max(due, self._postponement.not_before) - time.monotonic())

    @property
    def _behind(self) -> bool:
        """Whether frames come faster than they are inspected."""
        return self._pipeline.half_full

    def _deliver(self, finished: list[Finished]) -> None:
        self._outbox.deliver(finished, self._source.owns)

    def _until_due(self, longest_s: float) -> float:
        return min(longest_s, self._due_in())

    def _commit_if_due(self) -> None:
        if self._due_in() <= 0:
            self._commit()

    def _commit(self) -> None:
        self._raise_what_is_due()
        try:
            with self._readiness.committing():
                committed = self._outbox.commit()
        except CommitPostponed as postponed:
            self._wait_for_rebalance(postponed)
            return
        if not committed:
            return
        self._backoff.succeeded()
        self._readiness.committed()
        self._stopwatch.lap()
        self._settled()

    def _wait_for_rebalance(self, postponed: CommitPostponed) -> None:
        """Try again after a few polls; join the group anew where the rebalance does not come to an end."""
        if self._postponement.once_more():
            self._source.rejoin()
            raise DeliveryAborted(f"the group did not take a commit for longer than a session lasts: {postponed}")

    def _settled(self) -> None:
        self._postponement.over()
        self._backlog &= self._pipeline.in_flight > 0

    # ------------------------------------------------------------------ starting over

    def _raise_what_is_due(self) -> None:
        """Raise what a rebalance left to be raised here: the client would make another error of it."""
        if self._failure is not None:
            raise self._failure
        if self._abort_due is not None:
            raise DeliveryAborted(self._abort_due)

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except DeliveryAborted as aborted:
            self._start_over(str(aborted))
        except kafka_errors.KafkaError as error:
            if self._failure is not None:
                raise self._failure from error
            self._start_over(str(self._recovery.aborted(error)))

    def _start_over(self, reason: str) -> None:
        """Give up what is not committed, and read again from the committed offsets."""
        self.aborts += 1
        self._outbox.give_up()
        self._settled()
        wait_s = self._backoff.failed()
        log.warning("starting over from the committed offsets", reason=reason, wait_s=wait_s)
        if wait_s:
            self._readiness.waits_for_broker(f"starting over: {reason}")
        else:
            self._readiness.waits(f"starting over: {reason}")
        # While it is due nothing is delivered: partitions that move meanwhile have nothing to finish.
        self._abort_due = reason
        self._recovery.wait(wait_s)
        self._reopen(self._read_again)

    def _read_again(self) -> None:
        self._source.start_over()
        self._abort_due = None

    def _reopen(self, then: Callable[[], None]) -> None:
        if self._recovery.reopen(then):
            # Nobody looked for frames meanwhile: the line was not idle.
            self._last_frame_at = time.monotonic()
        elif self.in_flight:
            raise UncommittedError("stopped while the broker did not answer, frames stay uncommitted")

    # ------------------------------------------------------------------ called by the source inside its poll

    def _before_move(self) -> None:
        """Finish what was read from partitions that are about to move, and commit it, within a short time."""
        if self._abort_due is not None:
            return
        if not self._outbox.commits_while_moving:
            self._abort_due = "partitions move"
            return
        deadline = time.monotonic() + MOVE_S
        try:
            while self._pipeline.in_flight and (left := deadline - time.monotonic()) > 0:
                self._deliver(self._pipeline.take(left))
            self._commit()
        except DeliveryAborted as aborted:
            self._abort_due = str(aborted)
        except Exception as error:  # noqa: BLE001 - the loop raises it: the client would wrap it beyond recognition
            self._failure = error

    def _after_loss(self, reason: str) -> None:
        self._abort_due = reason
