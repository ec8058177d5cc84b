"""What an outbox holds while it is not known whether a commit counts."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.delivery import DeliveryAborted
from daemon.frames import Frame, FrameMeta
from daemon.metrics import Metrics
from daemon.outbox import Outbox, OutboxPolicy
from daemon.pipeline import Finished
from tests.support.line_doubles import CLEAN, Recorder

APPENDED_MS = 1_000


class Answerless(Recorder):
    """The answer to its commit is lost; keeps its mark."""

    mark = ""

    def commit(self, offsets: Any, mark: str = "") -> None:
        self.mark = mark
        raise DeliveryAborted("no answer")


def latencies(metrics: Metrics) -> float:
    return metrics.registry.get_sample_value("millwatch_latency_seconds_count") or 0.0


@pytest.mark.parametrize("taken", [True, False], ids=["taken", "not taken"])
def test_frames_of_a_commit_in_doubt_stay_in_flight_with_their_age_until_it_is_settled(taken: bool) -> None:
    policy = OutboxPolicy("e", "d", False, 0.0, 0.0, 10, 1_000_000)
    delivery, metrics = Answerless(), Metrics()
    outbox = Outbox(delivery, lambda *_: (b"", []), policy, metrics)
    frame = Frame(FrameMeta("f", 0, 7, APPENDED_MS, 0, None, "cam", None, None, None, ()), b"x")
    outbox.account.taken = 1
    outbox.deliver([Finished(frame, 0, CLEAN, 0)], lambda *_: True)
    with pytest.raises(DeliveryAborted):
        outbox.commit()
    outbox.give_up()
    assert (outbox.frames, outbox.oldest_ms, outbox.account.settled) == (1, APPENDED_MS, 0)
    outbox.settle(lambda _: {delivery.mark} if taken else {"another"})
    assert (outbox.frames, outbox.oldest_ms) == (0, None)
    assert (outbox.account.clean, outbox.account.returned) == (int(taken), int(not taken))
    assert latencies(metrics) == int(taken)
