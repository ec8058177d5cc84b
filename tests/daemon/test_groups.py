"""Several instances of one group under a running stream: they join, leave, die, freeze and take each other's name.

A reader of committed records counts what came of it, and looks at how long the partitions of those to whom nothing
happened stood still meanwhile.
"""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from daemon.apache_kafka import ApacheKafka
from tests.daemon.test_kills import Stream, start, wait_for_offsets
from tests.daemon.test_service import built
from tests.support.topics import Lane, new_lane

__all__ = ["built"]

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

PARTITIONS = 6
FRAMES_A_SECOND = 60
SESSION_S = 12.0
PATIENCE_S = 90.0

STANDSTILL_S = 5.0
"""How long a partition may stand still whose instance nothing happens to: well below what the group waits for a member
that is dead. Most of it is for a machine that is busy starting another instance."""


class Instance:
    """A service process of a name, and what it logs."""

    def __init__(self, lane: Lane, built: list[str], log: Path, name: str) -> None:
        self.name = name
        self.log = log
        settings = [
            f"kafka.instance={name}",
            f"kafka.session_timeout_ms={round(SESSION_S * 1000)}",
            "kafka.transaction_timeout_ms=15000",
            "kafka.commit_interval_ms=200",
            "engine.slots=1",
            "log.format=json",
        ]
        with log.open("wb") as output:
            self.process = start(lane, built, output, *settings)

    def entries(self) -> Iterator[dict[str, Any]]:
        """What it has logged so far."""
        for line in self.log.read_text().splitlines():
            if line.startswith("{"):
                yield json.loads(line)

    def told(self, event: str) -> int:
        """How often it has logged an event."""
        return sum(entry["event"] == event for entry in self.entries())

    @property
    def owns(self) -> set[int]:
        """The partitions that it owns, as far as it knows."""
        owned: set[int] = set()
        for entry in self.entries():
            if entry["event"] == "partitions assigned":
                owned = set(entry["partitions"])
            elif entry["event"] in ("partitions move", "partitions lost"):
                owned -= set(entry["partitions"])
        return owned

    @property
    def was_put_out(self) -> bool:
        """Whether it knows that the group had put it out; also where it was frozen while it was joining."""
        return self.told("partitions lost") + self.told("the group had put this instance out") > 0

    def ended(self) -> int:
        """Wait for its end; its exit code."""
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Group:
    """Starts instances, ends them all, and keeps what has to hold in each act."""

    def __init__(self, lane: Lane, built: list[str], folder: Path) -> None:
        self._lane = lane
        self._built = built
        self._folder = folder
        self.instances: list[Instance] = []
        self.undisturbed: list[tuple[str, float, float, set[int]]] = []

    def start(self, name: str) -> Instance:
        log = self._folder / f"{len(self.instances)}-{name}.log"
        self.instances.append(Instance(self._lane, self._built, log, name))
        return self.instances[-1]

    @contextmanager
    def act(self, title: str, *others: Instance) -> Iterator[None]:
        """Something happens to the group, and nothing to these: what they keep all along must not stand still."""
        kept = {each.name: each.owns for each in others}
        began = time.time()
        yield
        for each in others:
            assert each.process.poll() is None, (title, each.log.read_text()[-3000:])
            kept[each.name] &= each.owns
        self.undisturbed.append((title, began, time.time(), set().union(*kept.values())))

    def wait(self, done: Callable[[], bool], *running: Instance) -> None:
        """Wait for something, as long as these are running."""
        deadline = time.monotonic() + PATIENCE_S
        while not done():
            for each in running:
                assert each.process.poll() is None, each.log.read_text()[-3000:]
            assert time.monotonic() < deadline, [(each.name, each.owns) for each in self.instances]
            time.sleep(0.1)

    def shared(self, *instances: Instance) -> None:
        """Wait until these own all partitions, each at least one and none twice."""

        def done() -> bool:
            owned = [each.owns for each in instances]
            return all(owned) and sorted(number for each in owned for number in each) == list(range(PARTITIONS))

        self.wait(done, *instances)


@contextmanager
def group(lane: Lane, built: list[str], folder: Path) -> Iterator[Group]:
    instances = Group(lane, built, folder)
    try:
        yield instances
    finally:
        for each in instances.instances:
            each.process.send_signal(signal.SIGCONT)
            each.kill()


def standstills(events: list[Any], acts: list[tuple[str, float, float, set[int]]]) -> dict[str, float]:
    """By act, the longest time, in seconds, for which one of its partitions had no event."""
    at: dict[int, list[float]] = {number: [] for number in range(PARTITIONS)}
    for event in events:
        at[int(json.loads(event.value)["id"].rsplit("-", 2)[1])].append(event.timestamp / 1000)
    longest = {}
    for title, began, ended, partitions in acts:
        assert partitions, title
        gaps = [0.0]
        for number in partitions:
            times = [began, *sorted(moment for moment in at[number] if began <= moment <= ended), ended]
            gaps += [later - earlier for earlier, later in pairwise(times)]
        longest[title] = round(max(gaps), 2)
    return longest


@pytest.mark.timeout(600)
def test_whatever_happens_to_instances_nothing_is_lost_or_repeated_and_the_others_go_on(
    apache_kafka: ApacheKafka, built: list[str], tmp_path: Path
) -> None:
    lane = new_lane(apache_kafka.bootstrap, PARTITIONS)
    stream = Stream(lane, FRAMES_A_SECOND, PARTITIONS)
    try:
        with group(lane, built, tmp_path) as members:
            first, second = members.start("a"), members.start("b")
            members.shared(first, second)
            wait_for_offsets(lane, stream.sent.total(), PARTITIONS)

            with members.act("one joins", first, second):
                third = members.start("c")
                members.shared(first, second, third)

            with members.act("one is killed and comes back within its session", first, second):
                assigned = first.told("partitions assigned")
                before = third.owns
                third.kill()
                third = members.start("c")
                members.wait(lambda: third.owns == before, third)
                assert first.told("partitions assigned") == assigned

            with members.act("one leaves, and another joins while the group still waits for it", first, second):
                third.process.send_signal(signal.SIGTERM)
                assert third.ended() == 0, third.log.read_text()[-3000:]
                fourth = members.start("d")
                members.shared(first, second, fourth)

            with members.act("one is frozen past its session and thawed", first, second):
                fourth.process.send_signal(signal.SIGSTOP)
                members.shared(first, second)
                fourth.process.send_signal(signal.SIGCONT)
                # Where its transaction was open for too long it is fenced, and for its supervisor to start again.
                members.wait(lambda: fourth.process.poll() is not None or fourth.was_put_out)
                if fourth.process.poll() is not None or not comes_back(members, first, second, fourth):
                    assert fourth.ended() == 7, fourth.log.read_text()[-3000:]
                    fourth = members.start("d")
                    members.shared(first, second, fourth)

            with members.act("one is killed and stays away", first, second):
                fourth.kill()
                members.shared(first, second)

            with members.act("another takes the name of one", first):
                taker = members.start("b")
                assert second.ended() == 7, second.log.read_text()[-3000:]
                assert "kafka.instance" in second.log.read_text().splitlines()[-1]
                members.shared(first, taker)

            stream.stop()
            wait_for_offsets(lane, stream.sent.total(), PARTITIONS)
            for each in (first, taker):
                each.process.send_signal(signal.SIGTERM)
                assert each.ended() == 0, each.log.read_text()[-3000:]
    finally:
        stream.stop()

    events = lane.committed(lane.events, lambda seen: len(seen) >= stream.sent["defective"])
    letters = lane.committed(lane.dead, lambda seen: len(seen) >= stream.sent["dead"])
    ids = Counter(json.loads(event.value)["id"] for event in events)
    sources = Counter(dict(letter.headers)["millwatch-source"] for letter in letters)
    assert (len(ids), len(sources)) == (stream.sent["defective"], stream.sent["dead"])
    assert (ids.total(), sources.total()) == (len(ids), len(sources))
    assert lane.offsets(PARTITIONS) == stream.sent.total()
    stood = standstills(events, members.undisturbed)
    assert max(stood.values()) < STANDSTILL_S, stood


def comes_back(members: Group, *instances: Instance) -> bool:
    """Whether the last of them has partitions again; False where it ends instead."""
    last = instances[-1]
    members.wait(lambda: last.process.poll() is not None or bool(last.owns), *instances[:-1])
    if last.process.poll() is not None:
        return False
    members.shared(*instances)
    return True
