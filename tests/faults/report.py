"""A run as a row of a table and as JSON."""

from __future__ import annotations

import datetime
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from daemon.bench.machine import cpu_model
from tests.faults.rig import Injected, Options, Run

HEADER = (
    "| scenario | frames | faults | lost | repeated | wrong | in doubt | recovery p50, s | p95, s | exits | s |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


def good(options: Options, run: Run) -> bool:
    """Whether the service kept its promise, by itself."""
    exactly_once = options.delivery == "exactly_once"
    comparisons = [run.comparison, *([run.reader] if run.reader else [])]
    return not run.stopped and all(each.good(exactly_once=exactly_once) for each in comparisons)


def recovery_s(injected: Sequence[Injected]) -> list[float]:
    """Seconds that each fault took to recover from: see :class:`Injected`."""
    return sorted((each.recovered_ms - each.since_ms) / 1000 for each in injected if each.recovered_ms is not None)


def quantile(ascending: Sequence[float], share: float) -> float | None:
    """The smallest value that at least this share of the values do not pass; None of none."""
    if not ascending:
        return None
    return ascending[max(0, -int(-share * len(ascending) // 1) - 1)]


def row(options: Options, run: Run) -> str:
    found, times = run.comparison, recovery_s(run.injected)
    exits = sum((Counter(codes) for codes in run.exits.values()), Counter[int]())
    told = ", ".join(f"{code}: {count}" for code, count in sorted(exits.items()))
    wrong = found.wrong + found.disordered
    return (
        f"| {options.scenario.name} | {found.sent:,} | {len(run.injected)} | {found.lost + found.missing} | "
        f"{found.repeated} | {wrong} | {found.doubtful} | {_text(quantile(times, 0.5))} | "
        f"{_text(quantile(times, 0.95))} | {told} | {run.seconds:.0f} |"
    )


def as_json(options: Options, run: Run) -> dict[str, Any]:
    """All figures of a run, and what is needed to make them again."""
    by_kind: dict[str, list[Injected]] = defaultdict(list)
    for injected in run.injected:
        by_kind[injected.fault.kind].append(injected)
    return {
        "scenario": options.scenario.name,
        "size": asdict(options.size),
        "broker": options.broker,
        "delivery": options.delivery,
        "instances": options.scenario.instances,
        "rate": options.rate,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "seconds": round(run.seconds, 1),
        "interrupted": run.interrupted,
        "good": good(options, run),
        "stopped": run.stopped,
        "comparison": asdict(run.comparison),
        "reader": asdict(run.reader) if run.reader else None,
        "exits": run.exits,
        "recovery_s": {
            kind: {
                "faults": len(each),
                "recovered": len(times),
                "p50": quantile(times, 0.5),
                "p95": quantile(times, 0.95),
                "longest": times[-1] if times else None,
            }
            for kind, each in [("all", run.injected), *by_kind.items()]
            for times in [recovery_s(each)]
        },
        "faults": [_fault(each, run.began_ms) for each in run.injected],
    }


def _fault(injected: Injected, start_ms: int) -> dict[str, Any]:
    def since(moment: int | None) -> float | None:
        return None if moment is None else (moment - injected.began_ms) / 1000

    return {
        **asdict(injected.fault),
        "at_s": (injected.began_ms - start_ms) / 1000,
        "partitions": injected.partitions,
        "over_after_s": since(injected.over_ms),
        "recovered_after_s": since(injected.recovered_ms),
    }


def _text(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f}"
