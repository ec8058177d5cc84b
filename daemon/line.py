"""The line: reads frames, has them inspected, delivers what was found, and keeps the account.

One thread owns the consumer, the delivery and the account. It never waits for one thing while another is due: with
frames in flight it polls briefly, with a full pipeline it waits for the pipeline, and a commit is the only call that
may take longer, which the frames in the pipeline bridge.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from kafka import TopicPartition
from kafka import errors as kafka_errors

from daemon.accounting import Account
from daemon.deadletters import dead_letter
from daemon.delivery import CommitPostponed, Delivery, DeliveryAborted
from daemon.errors import FencedError, UncommittedError
from daemon.frames import Frame, FrameMeta
from daemon.kafka import diagnose
from daemon.metrics import Metrics
from daemon.pending import Pending
from daemon.pipeline import Finished, Pipeline, Rejection
from daemon.source import FrameSource
from engines.results import Inspection

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

RETRY_S = 1.0
"""Wait between attempts to start over while the broker does not answer."""

LAG_S = 1.0
"""How often the lag is looked at."""

POSTPONE_S = 0.05
"""Wait before a commit that a rebalance postponed is tried again; the polls in between let the rebalance go on."""

REJOIN_S = 5.0
"""How long a rebalance may postpone commits. A broker that lost track of a static member that was killed while it
joined would postpone them for ever; joining anew ends that."""

MAX_TAKE = 32
"""Frames taken from the consumer at once: few enough that a result never waits long behind them."""

EncodeEvent = Callable[[FrameMeta, Inspection, int], tuple[bytes, list[tuple[str, bytes]]]]
"""Value and headers of the event of a frame, its inspection and the time of it (ms since 1970, UTC)."""


@dataclass(frozen=True, slots=True)
class LinePolicy:
    """What the line is told by the configuration. Times are in seconds."""

    events_topic: str
    dead_topic: str
    publish_all: bool
    publish_delay_s: float
    commit_interval_s: float
    commit_max_frames: int
    max_message_bytes: int


@dataclass(frozen=True, slots=True)
class Span:
    """From the first frame taken to the last commit: wall time, and the processor time of the whole process."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0


class Line:
    """The run loop. The pipeline is open; it, the source and the delivery belong to the thread that runs the line."""

    def __init__(
        self,
        source_of: Callable[[Callable[[], None], Callable[[], None]], FrameSource],
        pipeline: Pipeline,
        delivery: Delivery,
        encode_event: EncodeEvent,
        policy: LinePolicy,
        metrics: Metrics,
    ) -> None:
        """``source_of`` makes the source from what to do before partitions move and after they were lost."""
        self._source = source_of(self._before_move, self._after_loss)
        self._pipeline = pipeline
        self._delivery = delivery
        self._encode_event = encode_event
        self._policy = policy
        self._metrics = metrics
        self.account = Account()
        self.commits = 0
        self.aborts = 0
        self.lag: dict[int, int] = {}
        self.span = Span()
        self._began: tuple[float, float] | None = None
        self._lag_at = 0.0
        self._stop = threading.Event()
        self._pending = Pending()
        self._not_before = 0.0
        self._postponed_at: float | None = None
        self._more_at_hand = False
        self._backlog = False
        self._last_poll_at = time.monotonic()
        self._last_frame_at = time.monotonic()
        self._abort_due: str | None = None
        self._waiting_for: str | None = "the line has not started"

    # ------------------------------------------------------------------ seen from other threads

    def stop(self) -> None:
        """Ask the line to take no more frames, finish those in hand, commit and end."""
        self._stop.set()

    @property
    def in_flight(self) -> int:
        """Frames taken whose verdicts are not committed yet."""
        return self._pipeline.in_flight + self._pending.tally.frames

    @property
    def rebalances(self) -> int:
        """How often partitions were assigned."""
        return self._source.rebalances

    def readiness(self) -> tuple[bool, str]:
        """Whether frames are being taken or would be, and why not."""
        if self._waiting_for is not None:
            return False, self._waiting_for
        silent = time.monotonic() - self._last_poll_at
        if silent > 10 * MEMBERSHIP_S:
            return False, f"the consumer was last polled {silent:.0f} s ago"
        return True, "taking frames"

    # ------------------------------------------------------------------ the loop

    def run(self, until_idle_s: float | None = None) -> None:
        """Run until :meth:`stop`, or until no frame has come for ``until_idle_s`` seconds; then drain and commit.

        Raises FencedError, BrokerError, UncommittedError, and what ended the pipeline.
        """
        self._start_over(first=True)
        self._source.open()
        try:
            while not self._stop.is_set() and not self._idle(until_idle_s):
                self._guarded(self._step)
            self._waiting_for = "the line is draining"
            while self.in_flight:
                self._guarded(self._drain)
        finally:
            self._source.close()
        if not self.account.balances(0):
            raise UncommittedError(f"the account does not add up: {self.account}")

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except DeliveryAborted as aborted:
            log.warning("starting over from the committed offsets", reason=str(aborted))
            self._start_over()
        except kafka_errors.FencedInstanceIdError as error:
            raise FencedError(
                "another instance has joined the group under this name: give each instance its own kafka.instance"
            ) from error
        except kafka_errors.AuthorizationError as error:
            raise diagnose.explain(error) from error
        except kafka_errors.KafkaError as error:
            log.warning("starting over after an error of the client", error=f"{type(error).__name__}: {error}")
            self._start_over()

    def _step(self) -> None:
        if self._abort_due is not None:
            raise DeliveryAborted(self._abort_due)
        full = self._pipeline.room < MAX_TAKE
        if full or (self._pipeline.in_flight and not self._more_at_hand):
            self._hand_on(self._pipeline.take(self._until_due(MEMBERSHIP_S if full else RESULTS_S)))
        if self._pipeline.room >= MAX_TAKE:
            longest_s = POLL_BUSY_S if self._pipeline.in_flight else POLL_IDLE_S
            polled = self._source.poll(self._until_due(longest_s), MAX_TAKE)
            self._more_at_hand = len(polled) == MAX_TAKE
            self._take_in(polled)
        elif time.monotonic() - self._last_poll_at > MEMBERSHIP_S:
            self._take_in(self._source.keep_membership())
        self._commit_if_due()
        if self._last_poll_at - self._lag_at > LAG_S:
            self._lag_at = self._last_poll_at
            self.lag = self._source.lag()

    def _drain(self) -> None:
        """Finish what is in hand. The group hears of it, since a commit may have to wait for a rebalance."""
        self._hand_on(self._pipeline.take(POSTPONE_S))
        self._take_in(self._source.keep_membership())
        if not self._pipeline.in_flight and time.monotonic() >= self._not_before:
            self._commit()

    def _idle(self, until_idle_s: float | None) -> bool:
        if until_idle_s is None or self.in_flight:
            return False
        if not self._source.rebalances:
            # The group has not answered yet: no frame could have come.
            self._last_frame_at = time.monotonic()
        return time.monotonic() - self._last_frame_at > until_idle_s

    def _take_in(self, polled: list[tuple[Frame, int]]) -> None:
        self._last_poll_at = time.monotonic()
        if polled:
            self._last_frame_at = self._last_poll_at
            if self._began is None:
                self._began = time.perf_counter(), time.process_time()
            # Counted before they are put: a frame that is in flight and not taken would be one too many.
            self.account.taken += len(polled)
            for frame, epoch in polled:
                self._pipeline.put(frame, epoch)
                self._metrics.bytes_taken.inc(len(frame.value or b""))
                if frame.meta.malformed:
                    self._metrics.malformed_headers.inc(len(frame.meta.malformed))
            self._backlog |= self._behind

    def _hand_on(self, finished: list[Finished]) -> None:
        """Send what finished frames cause, in their order; frames that are no longer ours are returned."""
        for done, item in enumerate(finished):
            meta = item.frame.meta
            partition = TopicPartition(meta.topic, meta.partition)
            if not self._source.owns(partition, item.epoch):
                self.account.returned += 1
                continue
            try:
                self._deliver(item)
            except BaseException:
                # This one is in the tally; those behind it have left the pipeline and are nowhere else.
                self.account.returned += len(finished) - done - 1
                raise
            self._pending.finish(partition, meta.offset, meta.timestamp_ms)

    def _deliver(self, item: Finished) -> None:
        # The tally counts the frame before it is sent: whatever fails from here on returns it.
        if isinstance(item.outcome, Rejection):
            self._bury(item, item.outcome)
        else:
            self._publish(item, item.outcome)

    def _bury(self, item: Finished, rejection: Rejection) -> None:
        letter = dead_letter(item.frame, rejection, self._policy.max_message_bytes)
        self._pending.tally.dead[rejection.reason] += 1
        self._send(self._policy.dead_topic, letter.key, letter.value, letter.headers)

    def _publish(self, item: Finished, inspection: Inspection) -> None:
        if inspection.defects:
            self._pending.tally.defective += 1
        else:
            self._pending.tally.clean += 1
        if inspection.defects or self._policy.publish_all:
            meta = item.frame.meta
            value, headers = self._encode_event(meta, inspection, item.inspected_at_ms)
            self._send(self._policy.events_topic, meta.camera.encode(), value, headers)

    def _send(self, topic: str, key: bytes | None, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        self._delivery.send(topic, key, value, headers)
        self._pending.sent(len(value))

    # ------------------------------------------------------------------ commits

    def _due_in(self) -> float:
        """Seconds until the next commit is due; infinite where nothing waits for one.

        A backlog that is worked off is committed at once: its last frames have nothing to share a commit with.
        """
        policy = self._policy
        worked_off = self._backlog and not self._pipeline.in_flight and not self._more_at_hand
        due = self._pending.due_at(
            interval_s=0.0 if worked_off else policy.commit_interval_s,
            publish_delay_s=policy.commit_interval_s if self._behind else policy.publish_delay_s,
            max_frames=policy.commit_max_frames,
        )
        return max(0.0, max(due, self._not_before) - time.monotonic())

    @property
    def _behind(self) -> bool:
        """Whether frames come faster than they are inspected.

        An event that waited behind half a pipeline of frames is not worth a commit of its own: on two cores one costs
        this process and its broker as much as inspecting two frames. It waits for the next one as clean frames do.
        """
        return self._pipeline.in_flight >= self._pipeline.capacity // 2

    def _until_due(self, longest_s: float) -> float:
        return min(longest_s, self._due_in())

    def _commit_if_due(self) -> None:
        if self._due_in() <= 0:
            self._commit()

    def _commit(self) -> None:
        if self._abort_due is not None:
            raise DeliveryAborted(self._abort_due)
        if not self._pending.offsets:
            return
        started = time.perf_counter()
        try:
            self._delivery.commit(self._pending.offsets)
        except CommitPostponed as postponed:
            self._wait_for_rebalance(postponed)
            return
        self._metrics.commit_seconds.observe(time.perf_counter() - started)
        now_ms = time.time_ns() // 1_000_000
        for appended_ms in self._pending.appended_ms:
            self._metrics.latency_seconds.observe((now_ms - appended_ms) / 1000)
        self.account.commit(self._pending.tally)
        self.commits += 1
        if self._began is not None:
            self.span = Span(time.perf_counter() - self._began[0], time.process_time() - self._began[1])
        self._clear()

    def _wait_for_rebalance(self, postponed: CommitPostponed) -> None:
        """Try again after a few polls; join the group anew where the rebalance does not come to an end."""
        now = time.monotonic()
        self._not_before = now + POSTPONE_S
        if self._postponed_at is None:
            self._postponed_at = now
        elif now - self._postponed_at > REJOIN_S:
            self._source.rejoin()
            raise DeliveryAborted(f"the group did not take a commit for {REJOIN_S:.0f} s: {postponed}")

    def _clear(self) -> None:
        self._pending = Pending()
        self._postponed_at = None
        self._backlog &= self._pipeline.in_flight > 0

    def _start_over(self, *, first: bool = False) -> None:
        """Give up what is not committed, and read again from the committed offsets.

        Waits for a broker that does not answer; a refusal ends the line.
        """
        if not first:
            self.aborts += 1
        self.account.returned += self._pending.tally.frames
        self._clear()
        self._abort_due = None
        while True:
            try:
                self._delivery.abort()
                self._delivery.open()
                if not first:
                    self._source.start_over()
            except kafka_errors.AuthorizationError as error:
                raise diagnose.explain(error) from error
            except kafka_errors.KafkaError as error:
                self._waiting_for = f"the broker does not answer ({type(error).__name__})"
                log.warning("waiting for the broker", error=f"{type(error).__name__}: {error}")
                if self._stop.wait(RETRY_S):
                    raise UncommittedError(
                        "stopped while the broker did not answer, frames stay uncommitted"
                    ) from error
            else:
                self._waiting_for = None
                return

    # ------------------------------------------------------------------ called by the source inside its poll

    def _before_move(self) -> None:
        """Finish what was read from partitions that are about to move, and commit it, within a short time."""
        if not self._delivery.commits_while_moving:
            self._abort_due = "partitions move"
            return
        deadline = time.monotonic() + MOVE_S
        try:
            while self._pipeline.in_flight and (left := deadline - time.monotonic()) > 0:
                self._hand_on(self._pipeline.take(left))
            self._commit()
        except DeliveryAborted as aborted:
            # The client swallows what its callbacks raise; the loop raises it again.
            self._abort_due = str(aborted)

    def _after_loss(self) -> None:
        self._abort_due = "the group gave this instance's partitions away"
