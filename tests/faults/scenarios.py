"""The scenarios: who runs, what goes wrong, and how long a run of each is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.faults import schedule
from tests.faults.schedule import GROUP_EVERY_S, Fault, FaultKind


@dataclass(frozen=True, slots=True)
class Size:
    """What a schedule is made from; ``longest_s`` is how long a fault lasts at most, where it has a length."""

    seed: int
    faults: int
    frames: int
    longest_s: float = 0.0


Plan = Callable[[Size], list[Fault]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """Who runs and what is done to it.

    ``frames``, ``faults`` and ``longest_s`` are those of a full run; ``rate`` is frames a second, 0 for as fast as they
    are judged. ``by_time`` streams go on until the last fault is over, whatever their number of frames. ``module`` is
    what runs in place of ``daemon``. ``network`` runs the instances in a namespace behind a cable, ``small_disk`` the
    broker on a disk that can be filled, ``reader`` a consumer of its own that can be stalled. Only Apache Kafka is hurt
    by broker faults: the embedded broker loses by its nature what it had not written yet.
    """

    name: str
    plan: Plan
    faults: int
    frames: int
    what: str
    instances: int = 1
    longest_s: float = 0.0
    rate: float = 0.0
    by_time: bool = False
    embedded: bool = False
    module: str = "daemon"
    poisoned: bool = False
    network: bool = False
    small_disk: bool = False
    reader: bool = False


def _counted(make: Callable[[int, int, int], list[Fault]]) -> Plan:
    return lambda size: make(size.seed, size.faults, size.frames)


def _group(size: Size) -> list[Fault]:
    return schedule.group(size.seed, 3, size.faults * GROUP_EVERY_S)


def _pauses(kind: FaultKind) -> Plan:
    return lambda size: schedule.pauses(kind, size.seed, size.faults, size.frames, size.longest_s)


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "kills", _counted(schedule.kills), 100, 100_000, "one instance is killed again and again", embedded=True
        ),
        Scenario(
            "group",
            _group,
            120,
            0,
            "every 5 s one of three instances is killed, ended or frozen past its session",
            instances=3,
            rate=150.0,
            by_time=True,
        ),
        Scenario(
            "broker-restarts",
            _counted(schedule.broker_restarts),
            20,
            20_000,
            "the broker is restarted, or crashes",
            rate=100.0,
        ),
        Scenario(
            "broker-pauses",
            _pauses("broker-pause"),
            10,
            20_000,
            "the broker stands still, for up to 45 s",
            longest_s=45.0,
            rate=100.0,
        ),
        Scenario(
            "device-faults",
            _counted(schedule.device_failures),
            20,
            20_000,
            "the device fails for good again and again, and now and then for a batch or for a frame",
            # Slow enough that an instance has ended and begun again before the next failure.
            rate=100.0,
            embedded=True,
            module="tests.faults.failing_engines",
            poisoned=True,
        ),
        Scenario(
            "network-cuts",
            _pauses("network-cut"),
            10,
            20_000,
            "the cable between service and broker is pulled, for up to 60 s",
            longest_s=60.0,
            rate=100.0,
            network=True,
        ),
        Scenario(
            "stalled-consumer",
            _pauses("stalled-consumer"),
            5,
            20_000,
            "a read_committed consumer of events and dead letters stands still, for up to 60 s",
            longest_s=60.0,
            rate=100.0,
            embedded=True,
            reader=True,
        ),
        Scenario(
            "full-disk",
            _pauses("full-disk"),
            5,
            10_000,
            "the broker's disk is full, for up to 15 s; then there is room, and the broker is started if it ended",
            longest_s=15.0,
            rate=100.0,
            small_disk=True,
        ),
    )
}
