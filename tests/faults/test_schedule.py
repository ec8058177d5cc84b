from __future__ import annotations

from collections import Counter

import pytest

from tests.faults import schedule
from tests.faults.schedule import SESSION_S, Fault


@pytest.mark.parametrize("seed", range(5))
def test_a_schedule_is_a_function_of_its_seed(seed: int) -> None:
    for make in (
        lambda seed: schedule.kills(seed, 100, 100_000),
        lambda seed: schedule.group(seed, 3, 600),
        lambda seed: schedule.broker_restarts(seed, 20, 10_000),
        lambda seed: schedule.pauses("broker-pause", seed, 10, 10_000, 20.0),
    ):
        assert make(seed) == make(seed)
        assert make(seed) != make(seed + 1)


@pytest.mark.parametrize("seed", range(5))
def test_kills_are_spread_over_the_stream_and_some_follow_hard_upon_another(seed: int) -> None:
    faults = schedule.kills(seed, 100, 100_000)
    at = [fault.after_frames for fault in faults]
    assert len(faults) == 100
    assert at == sorted(at)
    assert at[0] < 3_000
    assert 95_000 < at[-1] < 100_000
    assert 5 <= 100 - len(set(at)) <= 40


@pytest.mark.parametrize("seed", range(5))
def test_a_group_has_a_fault_every_five_seconds_and_never_hits_an_instance_that_is_frozen(seed: int) -> None:
    faults = schedule.group(seed, 3, 600)
    assert len(faults) == 120
    assert Counter(fault.kind for fault in faults) == {"kill": 40, "end": 40, "freeze": 40}
    assert {fault.instance for fault in faults} == {0, 1, 2}
    until = dict.fromkeys(range(3), 0.0)
    for number, fault in enumerate(faults, 1):
        assert fault.after_s == 5.0
        assert until[fault.instance] < 5.0 * number
        until[fault.instance] = 5.0 * number + fault.hold_s
        assert fault.hold_s > SESSION_S if fault.kind == "freeze" else fault.hold_s == 0
        assert sum(end > 5.0 * number for end in until.values()) < 3


def test_broker_restarts_are_crashes_and_ends_in_turn() -> None:
    faults = schedule.broker_restarts(1, 20, 10_000)
    assert Counter(fault.kind for fault in faults) == {"broker-restart": 10, "broker-kill": 10}
    assert [fault.after_frames for fault in faults] == sorted(fault.after_frames for fault in faults)


def test_pauses_have_the_longest_among_them() -> None:
    faults = schedule.pauses("network-cut", 1, 5, 1_000, 20.0)
    assert {type(fault) for fault in faults} == {Fault}
    assert max(fault.hold_s for fault in faults) == 20.0
    assert min(fault.hold_s for fault in faults) >= 0.5
