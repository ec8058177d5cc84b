"""The service: everything that a line needs, opened in the right order and closed in the reverse."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from types import FrameType
from typing import TYPE_CHECKING

import structlog
from kafka.errors import KafkaTimeoutError

from daemon.accounting import Account
from daemon.allocator import give_large_blocks_back
from daemon.delivery import AtLeastOnce, Delivery, ExactlyOnce
from daemon.errors import BrokerUnreachableError
from daemon.events import encode_event, event_headers, event_source
from daemon.frames import FrameMeta
from daemon.http import ProbeServer
from daemon.inspector import open_inspector, open_pipeline
from daemon.kafka import clients, diagnose, rights
from daemon.kafka.member import GroupMember
from daemon.line import Line
from daemon.metrics import LineFigures, Metrics
from daemon.outbox import EncodeEvent, Outbox, OutboxPolicy
from daemon.pipeline import Pipeline
from daemon.settings import Settings
from daemon.source import CLOSE_TIMEOUT_MS, FrameSource
from engines.cascade import Cascade
from engines.results import Inspection

if TYPE_CHECKING:
    from engines.build import BuildStep

log = structlog.get_logger(__name__)

RETRY_S = 2.0
"""Wait between attempts to reach a broker that does not answer."""


def run_service(settings: Settings, until_idle_s: float | None = None) -> Account:
    """Run until SIGTERM or SIGINT, or until no frame has come for ``until_idle_s`` seconds; drains and commits.

    Returns the account of the frames. Raises the MillwatchError that says why it could not go on.
    """
    give_large_blocks_back()
    clients.warn_if_slow()
    metrics = Metrics()
    life = _Life()
    with ExitStack() as resources:
        resources.enter_context(_until_signalled(life.stop))
        if settings.http.port:
            resources.enter_context(ProbeServer(settings.http.host, settings.http.port, metrics, life.readiness))
        cascade = resources.enter_context(open_inspector(settings, life.builds))
        metrics.cascade.info(asdict(cascade.identity))
        # Before the broker is waited for: a decoder that is missing is told although no broker answers.
        pipeline = resources.enter_context(open_pipeline(settings, cascade, _Timings(metrics)))
        life.waiting_for = "the broker does not answer"
        consumer = _connect(settings, life)
        if consumer is None:
            return Account()
        # The line closes it as well, before it gives up its partitions; a second time does nothing.
        resources.callback(consumer.close, autocommit=False, timeout_ms=CLOSE_TIMEOUT_MS)
        delivery = _delivery(settings, consumer)
        resources.callback(delivery.close)
        line = _line(settings, cascade, consumer, pipeline, delivery, metrics)
        life.follow(line)
        metrics.follow(lambda: _figures(line))
        log.info("inspecting", cascade=cascade.identity.cascade, backend=cascade.identity.backend, slots=cascade.slots)
        try:
            with diagnose.naming(rights.of_service(settings)):
                line.run(until_idle_s)
        finally:
            _log_account(line)
        return line.account


class _Life:
    """What the signals and the probes know of the service, whatever it is doing."""

    def __init__(self) -> None:
        self.waiting_for = "the engines are being loaded"
        self.stopped = threading.Event()
        self._line: Line | None = None

    def follow(self, line: Line) -> None:
        self._line = line
        if self.stopped.is_set():
            line.stop()

    def stop(self) -> None:
        self.stopped.set()
        if self._line is not None:
            self._line.stop()

    def builds(self, step: BuildStep) -> None:
        self.waiting_for = f"the engines are being built: {step.stage} ({step.number} of {step.total})"
        log.info("building an engine", stage=step.stage, number=step.number, of=step.total)

    def readiness(self) -> tuple[bool, str]:
        return (False, self.waiting_for) if self._line is None else self._line.readiness()


@contextmanager
def _until_signalled(stop: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT ask for a drain; a second one ends the process at once, as one does who will not wait."""

    def ask(number: int, _: FrameType | None) -> None:
        log.info("stopping: frames in hand are finished and committed", signal=signal.Signals(number).name)
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, insist)
        stop()

    def insist(number: int, _: FrameType | None) -> None:
        log.warning("ending without a drain: frames in hand stay uncommitted", signal=signal.Signals(number).name)
        os._exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _connect(settings: Settings, life: _Life) -> GroupMember | None:
    """The group's consumer, as soon as a broker answers and has the topics; None where a stop came first.

    Raises BrokerError where the broker refuses, which waiting does not mend.
    """
    while not life.stopped.is_set():
        try:
            diagnose.check_broker(settings)
            diagnose.check_service(settings)
            return clients.consumer(settings)
        except (BrokerUnreachableError, KafkaTimeoutError) as error:
            # The second where it goes away between being looked at and being used.
            life.waiting_for = str(error)
            log.warning("waiting for the broker", error=str(error))
            life.stopped.wait(RETRY_S)
    return None


class _Timings:
    """Tells the metrics how long decoding and inspection took."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def decoded(self, seconds: float) -> None:
        self._metrics.decode_seconds.observe(seconds)

    def inspected(self, frames: int, seconds: float) -> None:
        self._metrics.batch_frames.observe(frames)
        self._metrics.inspect_seconds.observe(seconds)


def _delivery(settings: Settings, consumer: GroupMember) -> Delivery:
    kafka = settings.kafka
    # The broker aborts a transaction after its timeout: waiting longer than that for an acknowledgement is vain. And
    # the consumer has to be polled again before the group counts this instance as stuck.
    timeout_s = min(kafka.transaction_timeout_ms, kafka.max_poll_interval_ms // 2) / 1000
    if kafka.delivery == "exactly_once":
        return ExactlyOnce(
            lambda: clients.producer(settings, transactional=True),
            consumer.membership,
            name=kafka.instance,
            timeout_s=timeout_s,
        )
    return AtLeastOnce(
        lambda: clients.producer(settings, transactional=False),
        lambda offsets, within_s: consumer.commit(offsets, timeout_ms=within_s * 1000),
        name=kafka.instance,
        timeout_s=timeout_s,
    )


def _line(
    settings: Settings,
    cascade: Cascade,
    consumer: GroupMember,
    pipeline: Pipeline,
    delivery: Delivery,
    metrics: Metrics,
) -> Line:
    kafka = settings.kafka

    def source_of(before_move: Callable[[], None], after_loss: Callable[[str], None]) -> FrameSource:
        return FrameSource(
            consumer, kafka.topics.frames, before_move=before_move, after_loss=after_loss, start=kafka.start
        )

    policy = OutboxPolicy(
        events_topic=kafka.topics.events,
        dead_topic=kafka.topics.dead,
        publish_all=settings.events.publish == "all",
        publish_delay_s=kafka.publish_delay_ms / 1000,
        commit_interval_s=kafka.commit_interval_ms / 1000,
        commit_max_frames=kafka.commit_max_frames,
        max_message_bytes=kafka.max_message_bytes,
    )
    outbox = Outbox(delivery, _event_encoder(settings, cascade, consumer), policy, metrics)
    return Line(
        source_of,
        pipeline,
        outbox,
        metrics,
        instance=kafka.instance,
        session_s=kafka.session_timeout_ms / 1000,
        check_broker=lambda: diagnose.look_for_trouble(settings),
        check_device=cascade.probe,
    )


def _event_encoder(settings: Settings, cascade: Cascade, consumer: GroupMember) -> EncodeEvent:
    source = event_source(clients.cluster_id(consumer), settings.kafka.topics.frames)
    identity = cascade.identity
    max_bytes = settings.events.max_bytes

    def encode(
        meta: FrameMeta, inspection: Inspection, inspected_at_ms: int, limit_bytes: int
    ) -> tuple[bytes, list[tuple[str, bytes]]]:
        value = encode_event(meta, inspection, identity, inspected_at_ms, min(max_bytes, limit_bytes))
        return value, event_headers(meta, source)

    return encode


def _figures(line: Line) -> LineFigures:
    # In flight is what the account leaves: counted beside it, it would be of another moment, and the sum would be off.
    account = line.account.snapshot()
    ages = line.ages()
    return LineFigures(
        account=account,
        in_flight=account.taken - account.settled,
        commits=line.commits,
        aborts=line.aborts,
        rebalances=line.rebalances,
        gone=line.gone,
        lag=line.lag,
        oldest_age_s=ages.in_flight,
        unread_age_s=ages.unread,
        bytes_held=line.bytes_held,
    )


def _log_account(line: Line) -> None:
    account = line.account
    span = line.span
    log.info(
        "account",
        taken=account.taken,
        clean=account.clean,
        defective=account.defective,
        dead=account.dead.total(),
        dead_by_reason=dict(account.dead),
        returned=account.returned,
        in_flight=line.in_flight,
        commits=line.commits,
        aborts=line.aborts,
        seconds=span and round(span.seconds, 3),
        cpu_seconds=span and round(span.cpu_seconds, 3),
    )
