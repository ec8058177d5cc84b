"""What a line does when its broker fails it: start over, wait, or say why it cannot go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest
from kafka import errors as kafka_errors

from daemon.delivery import CommitPostponed, DeliveryAborted, RecordTooLarge, failure
from daemon.errors import BrokerError, BrokerUnreachableError, FencedError
from daemon.frames import Frame
from daemon.pipeline import Image
from daemon.recovery import LONGEST_S, Backoff
from engines.errors import DeviceError
from engines.results import Inspection
from tests.support.line_doubles import (
    DEFECTIVE,
    PATIENCE_S,
    SESSION_S,
    Inspector,
    Recorder,
    Source,
    line_among,
)
from tests.support.running_service import wait_until


class FailingSource(Source):
    """Raises what it is given, one for each poll, before it hands over frames."""

    def __init__(self, frames: int, errors: list[Exception]) -> None:
        super().__init__(frames)
        self.errors = errors
        self.polled_at: list[float] = []

    def poll(self, timeout_s: float, max_frames: int) -> list[tuple[Frame, int]]:
        self.polled_at.append(time.monotonic())
        if self.errors:
            raise self.errors.pop(0)
        return super().poll(timeout_s, max_frames)


class FailingDelivery(Recorder):
    """Raises what it is given, one for each commit or opening, before it does its work."""

    def __init__(self, commits: list[Exception] | None = None, openings: list[Exception] | None = None) -> None:
        super().__init__()
        self.failing_commits, self.failing_openings = commits or [], openings or []

    def open(self) -> None:
        if self.failing_openings:
            raise self.failing_openings.pop(0)

    def commit(self, offsets: Any, mark: str = "") -> None:
        if self.failing_commits:
            raise self.failing_commits.pop(0)
        super().commit(offsets, mark)


class Repeating(Source):
    """Hands its frames over anew whenever the line starts over."""

    def __init__(self, frames: int) -> None:
        super().__init__(frames)
        self._all = list(self._left)

    def start_over(self) -> None:
        super().start_over()
        self._left = list(self._all)


def going() -> Inspector:
    inspector = Inspector(DEFECTIVE)
    inspector.go.set()
    return inspector


def test_waits_between_failures_grow_and_end_with_a_success() -> None:
    backoff = Backoff()
    waits = [backoff.failed() for _ in range(9)]
    assert waits[:5] == [0.0, 1.0, 2.0, 4.0, 8.0]
    assert max(waits) == waits[-1] == LONGEST_S
    backoff.succeeded()
    assert backoff.failed() == 0.0


@pytest.mark.timeout(30)
def test_an_error_that_lasts_is_not_tried_again_at_once() -> None:
    source = FailingSource(1, [kafka_errors.CorruptRecordError("bad")] * 2)
    delivery = Recorder()
    with line_among(source, delivery, going()) as line:
        line.run(until_idle_s=0.2)
    assert line.aborts == 2
    assert source.starts_over == 2
    assert source.polled_at[2] - source.polled_at[1] > 0.9
    assert line.account.defective == 1


@pytest.mark.timeout(30)
def test_a_commit_that_is_aborted_returns_its_frames() -> None:
    source, delivery = Source(1), FailingDelivery(commits=[DeliveryAborted("illegal generation")])
    with line_among(source, delivery, going()) as line:
        line.run(until_idle_s=0.2)
    assert (line.account.taken, line.account.returned, line.account.defective) == (1, 1, 0)
    assert source.starts_over == 1


@pytest.mark.timeout(30)
@pytest.mark.parametrize("taken", [True, False], ids=["taken", "not taken"])
def test_a_commit_whose_answer_was_lost_counts_if_the_committed_offsets_bear_its_mark(taken: bool) -> None:
    class Answerless(Recorder):
        """The answer to its first commit is lost."""

        def commit(self, offsets: Any, mark: str = "") -> None:
            super().commit(offsets, mark)
            if len(self.commits) == 1:
                marks.add(mark if taken else "of another commit")
                raise DeliveryAborted("no answer")

    marks: set[str] = set()
    source, delivery = Source(1), Answerless()
    source.marks_of = lambda _: marks  # type: ignore[method-assign]
    with line_among(source, delivery, going()) as line:
        line.run(until_idle_s=0.2)
    assert (line.account.taken, line.account.defective, line.account.returned) == (1, int(taken), int(not taken))
    assert (line.commits, line.in_flight) == (int(taken), 0)
    assert source.starts_over == 1


@pytest.mark.timeout(30)
def test_records_that_the_broker_refuses_for_their_size_are_sent_smaller_and_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Endless(Source):
        """Hands over its frames again after each start over."""

        def start_over(self) -> None:
            super().start_over()
            self._left = Source(1)._left

    source, delivery = Source(1), FailingDelivery(commits=[RecordTooLarge("10")])
    with line_among(source, delivery, going()) as line:
        line.run(until_idle_s=0.2)
        assert (line.account.returned, source.starts_over) == (1, 1)
    monkeypatch.setattr("daemon.recovery.FIRST_S", 0.0)
    endless = FailingDelivery(commits=[RecordTooLarge("10")] * 100)
    with line_among(Endless(1), endless, going()) as line, pytest.raises(BrokerError, match=r"max\.message\.bytes"):
        line.run()
    assert 90 < len(endless.failing_commits) < 98


@pytest.mark.timeout(30)
def test_a_refusal_ends_the_line_once_it_has_stood_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.readiness.REFUSED_S", 0.5)
    asked: list[float] = []

    def refuse() -> None:
        asked.append(time.monotonic())
        raise BrokerError("topic e does not exist")

    source = FailingSource(1, [kafka_errors.KafkaTimeoutError("no metadata")] * 100)
    with (
        line_among(source, Recorder(), going(), check_broker=refuse) as line,
        pytest.raises(BrokerError, match="topic e"),
    ):
        line.run()
    assert len(asked) == 2


@pytest.mark.timeout(30)
def test_trouble_that_the_source_sees_is_told_with_its_cause_and_forgotten_when_it_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("daemon.line.LOOK_S", 0.0)
    source = Source(0)
    trouble: list[str | None] = ["broker a:1 is not connected"]
    source.trouble = lambda: trouble[0]  # type: ignore[method-assign]

    def unreachable() -> None:
        raise BrokerUnreachableError("a:1 refuses connections")

    with line_among(source, Recorder(), going(), check_broker=unreachable) as line:
        thread = threading.Thread(target=line.run, name="line")
        thread.start()
        try:
            wait_until(lambda: line.readiness() == (False, "a:1 refuses connections"), "it tells of the trouble")
            trouble[0] = None
            wait_until(lambda: line.readiness() == (True, "taking frames"), "the trouble is over")
        finally:
            line.stop()
            thread.join(PATIENCE_S)


@pytest.mark.timeout(30)
def test_a_commit_that_is_postponed_is_made_a_little_later() -> None:
    source, delivery = Source(1), FailingDelivery(commits=[CommitPostponed("rebalance")])
    with line_among(source, delivery, going()) as line:
        line.run(until_idle_s=0.2)
    assert (line.account.returned, line.account.defective, line.aborts) == (0, 1, 0)


@pytest.mark.timeout(30)
def test_commits_that_are_postponed_for_longer_than_a_session_end_with_joining_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Postponing(FailingDelivery):
        """Takes a commit only once the group was joined anew."""

        def commit(self, offsets: Any, mark: str = "") -> None:
            if not source.rejoins:
                asked_at.append(time.monotonic())
                raise CommitPostponed("rebalance")
            super().commit(offsets, mark)

    monkeypatch.setattr("daemon.recovery.REJOIN_S", 0.2)
    asked_at: list[float] = []
    source = Source(1)
    with line_among(source, Postponing(), going()) as line:
        line.run(until_idle_s=0.5)
    assert source.rejoins == 1
    assert asked_at[-1] - asked_at[0] > SESSION_S
    assert (line.account.returned, line.aborts) == (1, 1)


@pytest.mark.timeout(30)
def test_the_group_hears_of_a_line_that_waits_before_it_starts_over_and_nothing_is_delivered_meanwhile() -> None:
    class Moving(Repeating):
        """Partitions move whenever the membership is kept."""

        def keep_membership(self) -> list[tuple[Frame, int]]:
            calls.append("move")
            self.before_move()
            return super().keep_membership()

    class Noting(FailingDelivery):
        def send(self, *values: Any) -> None:
            calls.append("send")

        def commit(self, offsets: Any, mark: str = "") -> None:
            calls.append("commit")
            super().commit(offsets, mark)

        def abort(self) -> None:
            calls.append("abort")

    calls: list[str] = []
    source, delivery = Moving(2), Noting(commits=[DeliveryAborted("evicted")] * 2)
    with line_among(source, delivery, going()) as line:
        line.run(until_idle_s=0.5)
    assert line.aborts == 2
    _, waiting = [index for index, call in enumerate(calls) if call == "commit"][:2]
    # No transaction stays open while the line waits.
    assert calls[waiting + 1] == "abort"
    meanwhile = calls[waiting + 2 : calls.index("abort", waiting + 2)]
    assert len(meanwhile) > 2
    assert set(meanwhile) == {"move"}


@pytest.mark.timeout(30)
def test_a_name_that_is_taken_while_the_line_waits_to_start_over_ends_it() -> None:
    class Taken(Repeating):
        def keep_membership(self) -> list[tuple[Frame, int]]:
            raise kafka_errors.FencedInstanceIdError

    source, delivery = Taken(2), FailingDelivery(commits=[DeliveryAborted("evicted")] * 9)
    with line_among(source, delivery, going()) as line, pytest.raises(FencedError, match=r"kafka\.instance"):
        line.run()


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (kafka_errors.FencedInstanceIdError(), FencedError),
        (kafka_errors.TopicAuthorizationFailedError(), BrokerError),
        (kafka_errors.InvalidSessionTimeoutError(), BrokerError),
    ],
)
def test_what_waiting_does_not_mend_ends_the_line(error: Exception, meaning: type[Exception]) -> None:
    source = FailingSource(0, [error])
    with line_among(source, Recorder(), going()) as line, pytest.raises(meaning):
        line.run()
    assert source.closed


@pytest.mark.timeout(30)
def test_fencing_while_partitions_move_ends_the_line_and_fences_nobody() -> None:
    class Moving(Source):
        """Partitions move in its second poll, and its client makes another error of what the callback raises."""

        def poll(self, timeout_s: float, max_frames: int) -> list[tuple[Frame, int]]:
            if self.polls == 1:
                self.before_move()
                self.polls += 1
                return []
            return super().poll(timeout_s, max_frames)

    source, delivery = Moving(1), FailingDelivery(commits=[FencedError("another instance")])
    with line_among(source, delivery, going()) as line, pytest.raises(FencedError):
        line.run()
    assert source.starts_over == 0


@pytest.mark.timeout(30)
def test_a_line_that_starts_over_while_it_drains_is_not_ready_afterwards() -> None:
    class Stopping(Source):
        """Stops the line with its frames; the broker is away at the first poll after that."""

        def poll(self, timeout_s: float, max_frames: int) -> list[tuple[Frame, int]]:
            line.stop()
            return super().poll(timeout_s, max_frames)

        def keep_membership(self) -> list[tuple[Frame, int]]:
            if not self.starts_over:
                raise kafka_errors.KafkaTimeoutError("away")
            told.append(line.readiness())
            inspector.go.set()
            return super().keep_membership()

    told: list[tuple[bool, str]] = []
    inspector = Inspector(DEFECTIVE)
    with line_among(Stopping(2), Recorder(), inspector) as line:
        line.run()
    assert set(told) == {(False, "the line is draining")}


@pytest.mark.timeout(30)
def test_a_stop_while_the_broker_is_away_at_start_ends_in_order() -> None:
    source, delivery = Source(0), FailingDelivery(openings=[kafka_errors.KafkaTimeoutError("away")] * 100)
    with line_among(source, delivery, going()) as line:
        thread = threading.Thread(target=line.run, name="line")
        thread.start()
        while line.readiness()[1] == "the line has not started":
            time.sleep(0.001)
        assert line.readiness() == (False, "the broker does not answer (KafkaTimeoutError)")
        line.stop()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    assert source.closed
    assert line.account.balances(0)


def test_what_only_quotes_a_refusal_for_size_is_one() -> None:
    quoting = kafka_errors.KafkaError("a previous request has failed", kafka_errors.MessageSizeTooLargeError())
    assert isinstance(failure(quoting, "line"), RecordTooLarge)
    assert not isinstance(failure(kafka_errors.KafkaError("a previous request has failed"), "line"), RecordTooLarge)


@pytest.mark.timeout(30)
def test_a_lost_device_ends_the_line_and_readiness_says_why_while_it_ends() -> None:
    """Giving back partitions and closing engines takes a while, in which somebody may ask."""

    class LostDevice(Inspector):
        def inspect(self, frames: Sequence[Image]) -> list[Inspection]:
            raise DeviceError("the GPU does not answer any more: gate: an illegal memory access was encountered")

    class Watched(Source):
        told: tuple[bool, str] | None = None

        def close(self) -> None:
            self.told = line.readiness()

    source = Watched(1)
    with line_among(source, Recorder(), LostDevice(DEFECTIVE)) as line, pytest.raises(DeviceError):
        line.run()
    assert source.told == (False, "the GPU does not answer any more: gate: an illegal memory access was encountered")


@pytest.mark.timeout(30)
def test_a_device_that_is_lost_while_no_frame_comes_ends_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost() -> None:
        raise DeviceError("the GPU does not answer any more: unspecified launch failure")

    for name in ("LOOK_S", "PROBE_S"):
        monkeypatch.setattr(f"daemon.line.{name}", 0.01)
    with line_among(Source(0), Recorder(), Inspector(DEFECTIVE), check_device=lost) as line:
        with pytest.raises(DeviceError, match="unspecified launch failure"):
            line.run(until_idle_s=5)
        assert line.readiness() == (False, "the GPU does not answer any more: unspecified launch failure")
