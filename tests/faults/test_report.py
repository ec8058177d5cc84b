from __future__ import annotations

import json

import pytest

from tests.faults import report
from tests.faults.comparison import Comparison
from tests.faults.rig import Injected, Options, Run
from tests.faults.scenarios import SCENARIOS, Size
from tests.faults.schedule import Fault


def options(delivery: str = "exactly_once") -> Options:
    return Options(scenario=SCENARIOS["kills"], size=Size(1, 2, 10), rate=0.0, broker="apache", delivery=delivery)


def run(comparison: Comparison) -> Run:
    injected = [Injected(Fault("kill"), 1_000 * each, [0], 1_000 * each + 100, 2_500 * each) for each in range(1, 5)]
    injected.append(Injected(Fault("kill"), 9_000, [0], 9_100, None))
    return Run(comparison=comparison, injected=injected, exits={"i1": {-9: 5, 0: 1}}, began_ms=500, seconds=12.3)


@pytest.mark.parametrize(
    ("ascending", "share", "value"),
    [
        ([], 0.5, None),
        ([3.0], 0.5, 3.0),
        ([3.0], 0.95, 3.0),
        ([1.0, 2.0, 3.0, 4.0], 0.5, 2.0),
        ([float(each) for each in range(1, 101)], 0.95, 95.0),
    ],
)
def test_a_quantile_is_the_smallest_value_that_so_many_do_not_pass(
    ascending: list[float], share: float, value: float | None
) -> None:
    assert report.quantile(ascending, share) == value


def test_recovery_begins_with_the_fault_or_with_its_end_where_nobody_can_go_on_before() -> None:
    times = {"began_ms": 1_000, "partitions": [0], "over_ms": 5_000, "recovered_ms": 5_500}
    at_once = ["kill", "end", "freeze", "device-failure", "stalled-consumer"]
    afterwards = ["broker-restart", "broker-kill", "broker-pause", "network-cut", "full-disk"]
    found = [report.recovery_s([Injected(Fault(kind), **times)]) for kind in [*at_once, *afterwards]]
    assert found == [[4.5]] * 5 + [[0.5]] * 5


def test_a_row_has_a_cell_for_each_column_of_the_header() -> None:
    row = report.row(options(), run(Comparison(sent=1_234, lost=1, missing=2, repeated=3, wrong=4, disordered=5)))
    assert row == "| kills | 1,234 | 5 | 3 | 3 | 9 | 0 | 3.0 | 6.0 | -9: 5, 0: 1 | 12 |"
    assert {line.count("|") for line in [row, *report.HEADER.splitlines()]} == {12}


def test_the_figures_are_json_and_tell_each_fault() -> None:
    told = json.loads(json.dumps(report.as_json(options(), run(Comparison(sent=5)))))
    assert told["good"]
    assert told["recovery_s"]["kill"] == {"faults": 5, "recovered": 4, "p50": 3.0, "p95": 6.0, "longest": 6.0}
    assert told["faults"][0] == {
        "kind": "kill",
        "after_frames": 0,
        "after_s": 0.0,
        "hold_s": 0.0,
        "instance": 0,
        "at_s": 0.5,
        "partitions": [0],
        "over_after_s": 0.1,
        "recovered_after_s": 1.5,
    }
    assert told["faults"][-1]["recovered_after_s"] is None


@pytest.mark.parametrize("what", ["lost", "repeated", "wrong", "disordered", "missing"])
def test_a_run_with_a_fault_of_the_service_is_not_good(what: str) -> None:
    found = run(Comparison(**{what: 1}))
    assert not report.good(options(), found)
    assert report.good(options("at_least_once"), found) == (what in ("repeated", "disordered"))


def test_a_run_in_which_the_service_stopped_or_its_reader_missed_something_is_not_good() -> None:
    stopped, misread = run(Comparison()), run(Comparison())
    stopped.stopped.append("no verdict for 180 s")
    misread.reader = Comparison(lost=1)
    assert report.good(options(), run(Comparison()))
    assert not report.good(options(), stopped)
    assert not report.good(options(), misread)
