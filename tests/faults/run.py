"""Hurts a running service on purpose, and counts what came of its frames.

``python -m tests.faults.run --scenario kills --seed 1`` prints a row of a table for each scenario, ``--json FILE``
writes all figures as well. Progress goes to standard error. Ctrl-C ends the stream; what was sent until then is still
drained, compared and reported. Ends with 1 where anything was lost, wrong, or repeated although exactly once was
promised, and where the service needed a hand.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from daemon.apache_kafka import HOME_VARIABLE, home
from tests.faults import report
from tests.faults.brokers import Network, SmallDisk
from tests.faults.rig import Options, Rig, Run, StoppedError
from tests.faults.scenarios import SCENARIOS, Scenario, Size
from tests.faults.schedule import GROUP_EVERY_S


def unavailable(scenario: Scenario, broker: str) -> str | None:
    """Why a scenario cannot run here; None where it can."""
    if broker == "embedded":
        return None if scenario.embedded else "the embedded broker loses what it had not written yet"
    if home() is None:
        return f"no Apache Kafka: {HOME_VARIABLE} names no home, or there is no Java"
    if scenario.network:
        return Network.unavailable()
    return SmallDisk.unavailable() if scenario.small_disk else None


def run_scenario(options: Options, keep: Path | None = None) -> Run:
    """Run it in a folder of its own, which stays where something was wrong, or is ``keep``."""
    folder = keep / options.scenario.name if keep else Path(tempfile.mkdtemp(prefix="millwatch-faults-"))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "broker").mkdir()
    try:
        with Rig(options, folder) as rig:
            run = rig.run()
    except StoppedError as stopped:
        run = Run(stopped=[str(stopped)])
    if report.good(options, run) and not keep:
        shutil.rmtree(folder)
    else:
        print(f"data and logs are in {folder}", file=sys.stderr)
    return run


def options_of(scenario: Scenario, chosen: argparse.Namespace) -> Options:
    """What the command line leaves out is the scenario's; fewer frames have as many fewer faults."""
    frames = scenario.frames if chosen.frames is None else chosen.frames
    faults = scenario.faults
    if scenario.by_time and chosen.minutes is not None:
        faults = round(chosen.minutes * 60 / GROUP_EVERY_S)
    elif scenario.frames and chosen.frames is not None:
        faults = max(1, round(scenario.faults * frames / scenario.frames))
    return Options(
        scenario=scenario,
        size=Size(
            seed=chosen.seed,
            faults=faults if chosen.faults is None else chosen.faults,
            frames=frames,
            longest_s=scenario.longest_s if chosen.longest is None else chosen.longest,
        ),
        rate=scenario.rate if chosen.rate is None else chosen.rate,
        broker=chosen.broker,
        delivery=chosen.delivery,
    )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = "; ".join(f"{scenario.name}: {scenario.what}" for scenario in SCENARIOS.values())
    parser.add_argument("--scenario", choices=list(SCENARIOS), action="append", help=f"all by default. {names}")
    parser.add_argument("--seed", type=int, default=1, help="of the stream and of the schedule")
    parser.add_argument("--frames", type=int, help="length of the stream")
    parser.add_argument("--minutes", type=float, help="length of a stream that goes by time: group")
    parser.add_argument("--faults", type=int, help="how many; by default in proportion to the length")
    parser.add_argument("--longest", type=float, help="seconds that a pause, a cut or a full disk lasts at most")
    parser.add_argument("--rate", type=float, help="frames a second, 0 for as fast as they are judged")
    parser.add_argument("--broker", choices=["apache", "embedded"], default="apache")
    parser.add_argument("--delivery", choices=["exactly_once", "at_least_once"], default="exactly_once")
    parser.add_argument("--json", type=Path, help="where the figures go, one JSON object a line")
    parser.add_argument("--keep", type=Path, help="folder for data and logs, which stays")
    chosen = parser.parse_args(arguments)
    # A background job of a shell ignores SIGINT unless it is told otherwise.
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    print(report.HEADER)
    all_good = True
    for name in chosen.scenario or SCENARIOS:
        scenario = SCENARIOS[name]
        reason = unavailable(scenario, chosen.broker)
        if reason is not None:
            print(f"| {name} | skipped: {reason} | | | | | | | | | |", flush=True)
            continue
        options = options_of(scenario, chosen)
        run = run_scenario(options, chosen.keep)
        print(report.row(options, run), flush=True)
        all_good &= report.good(options, run)
        for line in [*run.stopped, *run.comparison.examples, *(run.reader.examples if run.reader else [])]:
            print(f"FAULT {name}: {line}", file=sys.stderr)
        if chosen.json:
            with chosen.json.open("a", encoding="utf-8") as output:
                print(json.dumps(report.as_json(options, run)), file=output)
        if run.interrupted:
            break
    return 0 if all_good else 1


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
