"""What a line tells of itself, and which refusals it takes for lasting ones."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from daemon import readiness
from daemon.errors import BrokerError, BrokerUnreachableError
from daemon.readiness import ASK_WHY_S, REFUSED_S, SILENT_S, SLOW_COMMIT_S, Readiness
from engines.errors import UsageError


class Broker:
    """Answers as it is told to; the clock moves only when the test moves it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        self.answer: Exception | None = None
        self.asked = 0
        monkeypatch.setattr(readiness, "time", SimpleNamespace(monotonic=lambda: self.now))

    def check(self) -> None:
        self.asked += 1
        if self.answer is not None:
            raise self.answer


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    return Broker(monkeypatch)


def test_a_line_that_goes_on_is_ready_until_it_is_silent_or_its_commit_is_slow(broker: Broker) -> None:
    line = Readiness(broker.check)
    assert line.told() == (False, "the line has not started")
    line.goes_on()
    assert line.told() == (True, "taking frames")
    with line.committing():
        broker.now += SLOW_COMMIT_S + 1
        assert line.told() == (False, "the broker has not taken a commit for 6 s")
    assert line.told()[0]
    broker.now += SILENT_S
    assert line.told() == (False, "the consumer was last polled 16 s ago")
    line.polled()
    assert line.told()[0]


def test_a_broker_is_not_asked_again_before_a_while_is_over(broker: Broker) -> None:
    line = Readiness(broker.check)
    broker.answer = BrokerUnreachableError("a:1 refuses connections")
    assert line.waits_for_broker("away") == "a:1 refuses connections"
    broker.now += ASK_WHY_S / 2
    assert line.waits_for_broker("still away") == "a:1 refuses connections"
    assert broker.asked == 1
    broker.now += ASK_WHY_S
    broker.answer = None
    assert line.waits_for_broker("still away") == "still away"
    assert line.told() == (False, "still away")


def test_the_answer_to_one_trouble_is_not_told_of_the_next(broker: Broker) -> None:
    line = Readiness(broker.check)
    line.goes_on()
    broker.answer = BrokerUnreachableError("a:1 refuses connections")
    line.look("broker a:1 is not connected")
    assert line.told() == (False, "a:1 refuses connections")
    line.look(None)
    assert line.told()[0]
    line.look("partition 3 has no leader")
    assert line.told() == (False, "partition 3 has no leader")


@pytest.mark.parametrize("refusal", [BrokerError("topic e does not exist"), UsageError("the token's file is empty")])
def test_a_refusal_is_raised_only_once_it_has_stood_for_a_while(broker: Broker, refusal: Exception) -> None:
    line = Readiness(broker.check)
    broker.answer = refusal
    line.look("trouble")
    assert line.told()[0] is False
    broker.now += REFUSED_S + 1
    with pytest.raises(type(refusal)):
        line.look("trouble")


@pytest.mark.parametrize("by", ["commit", "end of the trouble", "answer"])
def test_a_refusal_that_has_passed_does_not_count_for_the_next(broker: Broker, by: str) -> None:
    line = Readiness(broker.check)
    broker.answer = BrokerError("topic e does not exist")
    line.look("trouble")
    if by == "commit":
        line.committed()
    elif by == "end of the trouble":
        line.look(None)
    else:
        broker.answer, answer = None, broker.answer
        line.look("trouble")
        broker.answer = answer
    broker.now += ASK_WHY_S + REFUSED_S
    line.look("trouble")
    assert broker.asked == (3 if by == "answer" else 2)
