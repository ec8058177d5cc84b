"""The rig: a broker, a counted stream, instances of the service, and faults from a schedule."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from kafka.errors import KafkaError

from daemon.embedded_broker import HOST, EmbeddedBroker
from tests.faults.brokers import Broker, FaultyKafka, Network, SmallDisk
from tests.faults.comparison import Comparison, compare
from tests.faults.ledger import Ledger
from tests.faults.reader import StalledReader
from tests.faults.scenarios import Scenario, Size
from tests.faults.schedule import Fault
from tests.faults.stream import Stream
from tests.faults.supervisor import Instance
from tests.faults.witness import (
    Witness,
    committed_offsets,
    group_offsets,
    read_events,
    read_letters,
    read_topic,
)
from tests.support.tiny_cascade import write_tiny_cascade
from tests.support.topics import Lane, new_lane

PARTITIONS = 6

HIT_ONE = frozenset({"kill", "end", "freeze", "device-failure"})
"""Faults that hit one instance and the partitions that it owns."""

DISK_MIB = 192
"""Room for the broker's data of a stream of frames as small as ours, on a disk that is to be filled."""

START_S = 180.0
"""How long the instances may take to build their engines and to share the partitions."""

STOPPED_S = 180.0
"""Without a new verdict for so long, and with no fault under way, the service counts as stopped."""

LOOK_S = 0.02

TELL_S = 15.0


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is; ``rate`` as in :class:`Scenario`."""

    scenario: Scenario
    size: Size
    rate: float
    broker: str
    delivery: str


@dataclass
class Injected:
    """A fault that was done. Times in milliseconds since 1970.

    ``over_ms`` is when the rig undid it, or the supervisor started the instance again; ``recovered_ms`` when the last
    of the partitions went on: a reader saw an event of a frame that was inspected after :attr:`since_ms`. None if no
    partition had to.
    """

    fault: Fault
    began_ms: int
    partitions: list[int]
    over_ms: int | None = None
    recovered_ms: int | None = None

    @property
    def since_ms(self) -> int:
        """When recovery begins: with the fault, where the other instances, the next life or the service itself can go
        on at once; and where nobody can go on before the rig has undone it, then."""
        goes_on = self.fault.kind in HIT_ONE or self.fault.kind == "stalled-consumer"
        return self.began_ms if goes_on or self.over_ms is None else self.over_ms


@dataclass
class Run:
    """What came of it."""

    comparison: Comparison = field(default_factory=Comparison)
    reader: Comparison | None = None
    injected: list[Injected] = field(default_factory=list)
    exits: dict[str, dict[int, int]] = field(default_factory=dict)
    stopped: list[str] = field(default_factory=list)
    began_ms: int = 0
    seconds: float = 0.0
    interrupted: bool = False


class StoppedError(Exception):
    """The service does not go on by itself."""


class Rig:
    """One run; a context manager that ends all that it has started. ``folder`` gets data and logs.

    ``kafka`` is a broker that several runs share, started by whoever made it, and ``engines`` a folder of cascade and
    engines that they share; without them a run makes its own.
    """

    def __init__(
        self, options: Options, folder: Path, *, kafka: FaultyKafka | None = None, engines: Path | None = None
    ) -> None:
        self._options = options
        self._shared_kafka = kafka
        self._engines = engines or folder
        self._scenario = options.scenario
        self._folder = folder
        self._resources = ExitStack()
        self._told_at = 0.0
        self._began = time.monotonic()
        self.run_ = Run()

    def __enter__(self) -> Rig:
        try:
            self._open()
        except BaseException:
            self._resources.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def _open(self) -> None:
        scenario, folder = self._scenario, self._folder
        self._network = self._resources.enter_context(Network()) if scenario.network else None
        self._disk = (
            self._resources.enter_context(SmallDisk(folder / "disk", DISK_MIB)) if scenario.small_disk else None
        )
        self._broker: Broker = self._shared_kafka or self._resources.enter_context(self._made_broker())
        self._bootstrap = self._broker.bootstrap
        self._lane: Lane = new_lane(self._bootstrap, PARTITIONS)
        cascade = write_tiny_cascade(self._engines / "cascade")
        overrides = [
            *self._lane.overrides,
            f"cascade={cascade}",
            f"engine.directory={self._engines / 'engines'}",
            f"kafka.delivery={self._options.delivery}",
        ]
        self._instances = [
            Instance(
                f"i{number + 1}",
                overrides,
                folder,
                prefix=self._network.prefix if self._network else (),
                module=scenario.module,
            )
            for number in range(scenario.instances)
        ]
        for number, instance in enumerate(self._instances):
            instance.start()
            self._resources.callback(instance.stop)
            if number == 0:
                # It builds the engines, the others find them.
                self._wait(instance.owned, START_S, f"{instance.name} has no partitions")
        self._wait(self._shared, START_S, "the partitions are not shared among the instances")
        self._witness = Witness(self._bootstrap, self._lane.events, self._lane.dead)
        self._resources.callback(self._witness.stop)
        self._reader: StalledReader | None = None
        if scenario.reader:
            reader = StalledReader(self._bootstrap, self._lane.events, self._lane.dead, folder)
            self._reader = self._resources.enter_context(reader)
        self._ledger = Ledger()
        self._stream = Stream(
            self._bootstrap,
            self._lane.frames,
            self._ledger,
            lambda: self._witness.judged,
            seed=self._options.size.seed,
            partitions=PARTITIONS,
            frames=sys.maxsize if scenario.by_time else self._options.size.frames,
            rate=self._options.rate,
            poisoned=scenario.poisoned,
        )
        self._resources.callback(self._stream.stop)

    def _made_broker(self) -> Broker:
        if self._options.broker == "embedded":
            return EmbeddedBroker()
        return FaultyKafka(
            self._folder / "broker",
            host=self._network.address if self._network else HOST,
            data=self._disk.folder / "data" if self._disk else None,
        )

    # ------------------------------------------------------------------ a run

    def run(self) -> Run:
        """Inject what the schedule says, wait until all is drained, and compare."""
        run = self.run_
        began, run.began_ms = time.monotonic(), _now_ms()
        try:
            self._inject(self._scenario.plan(self._options.size))
            if not self._scenario.by_time:
                self._until(lambda: self._stream.ended)
        except KeyboardInterrupt:
            run.interrupted = True
            self._tell("interrupted: what was sent until now is drained and compared", now=True)
        except StoppedError as stopped:
            run.stopped.append(str(stopped))
        finally:
            for done in run.injected:
                self._finish(done)
        self._stream.stop()
        try:
            self._drain()
        except StoppedError as stopped:
            run.stopped.append(str(stopped))
        for instance in self._instances:
            code = instance.stop()
            # SIGTERM ends a process that has not come as far as its own handler: it holds no frames yet.
            if code not in (None, 0, -signal.SIGTERM):
                run.stopped.append(f"{instance.name} ended with {code} when it was asked to drain")
        run.seconds = time.monotonic() - began
        self._witness.stop()
        self._look_back()
        return run

    def _inject(self, faults: list[Fault]) -> None:
        last = time.monotonic()
        for fault in faults:
            self._until(lambda fault=fault, last=last: self._due(fault, last))
            last = time.monotonic()
            self._begin(fault)
        self._until(lambda: not self._under_way())

    def _due(self, fault: Fault, last: float) -> bool:
        # How many frames are judged is reckoned from what leaves a record, and may end a little below what was sent.
        far_enough = self._witness.judged >= fault.after_frames or self._stream.ended
        return far_enough and time.monotonic() - last >= fault.after_s

    def _until(self, reached: Callable[[], bool]) -> None:
        """Wait for a condition, and undo the faults whose time is over meanwhile."""
        while not reached():
            for injected in self._under_way():
                if _now_ms() >= injected.began_ms + injected.fault.hold_s * 1000:
                    self._finish(injected)
            self._look_whether_it_goes_on()
            self._tell("")
            time.sleep(LOOK_S)

    def _under_way(self) -> list[Injected]:
        return [injected for injected in self.run_.injected if injected.over_ms is None]

    def _begin(self, fault: Fault) -> None:
        instance = self._instances[fault.instance]
        partitions = instance.owned() if fault.kind in HIT_ONE else list(range(PARTITIONS))
        injected = Injected(fault, _now_ms(), partitions)
        self.run_.injected.append(injected)
        match fault.kind:
            case "kill":
                instance.kill()
                # Nothing that it did counts as progress any more.
                injected.began_ms = _now_ms()
            case "end":
                instance.end()
            case "freeze":
                instance.freeze()
            case "device-failure":
                instance.fail_device()
            case "broker-restart":
                self._kafka.stop()
            case "broker-kill":
                self._kafka.kill()
            case "broker-pause":
                self._kafka.pause()
            case "network-cut":
                assert self._network is not None
                self._network.cut()
            case "full-disk":
                assert self._disk is not None
                self._disk.fill()
            case "stalled-consumer":
                assert self._reader is not None
                self._reader.stall()
        if not fault.hold_s:
            self._finish(injected)

    def _finish(self, injected: Injected) -> None:
        if injected.over_ms is not None:
            return
        match injected.fault.kind:
            case "freeze":
                self._instances[injected.fault.instance].resume()
            case "broker-restart" | "broker-kill":
                self._kafka.start()
            case "broker-pause":
                self._kafka.resume()
            case "network-cut":
                assert self._network is not None
                self._network.plug()
            case "full-disk":
                assert self._disk is not None
                self._disk.empty()
                if not self._kafka.alive:
                    self._kafka.start()
            case "stalled-consumer":
                assert self._reader is not None
                self._reader.resume()
        injected.over_ms = _now_ms()
        self._witness.last_at = time.monotonic()

    # ------------------------------------------------------------------ the end

    def _drain(self) -> None:
        """Wait until all that lies on the camera topic is committed, as long as the committed offsets move on."""
        self._tell("draining", now=True)
        with group_offsets(self._bootstrap, self._lane.name) as consumer:
            ends = self._ends(consumer)
            total, committed, moved = sum(ends.values()), -1, time.monotonic()
            while committed < total:
                for instance in self._instances:
                    if instance.gave_up is not None:
                        raise StoppedError(instance.gave_up)
                try:
                    now = sum(committed_offsets(consumer, self._lane.frames, PARTITIONS).values())
                except KafkaError:
                    now = committed
                if now > committed:
                    committed, moved = now, time.monotonic()
                if time.monotonic() - moved > STOPPED_S:
                    raise StoppedError(
                        f"{committed} of {total} frames are committed, and for {STOPPED_S:.0f} s no more"
                    )
                time.sleep(0.2)

    def _look_back(self) -> None:
        run, lane = self.run_, self._lane
        topic = read_topic(self._bootstrap, lane.frames)
        with group_offsets(self._bootstrap, lane.name) as consumer:
            committed = committed_offsets(consumer, lane.frames, PARTITIONS)
        events, letters = read_events(self._bootstrap, lane.events), read_letters(self._bootstrap, lane.dead)
        run.comparison = compare(self._ledger, topic, events, letters, committed)
        if self._reader is not None:
            seen_there = self._reader.seen(len(events) + len(letters))
            run.reader = compare(self._ledger, topic, *seen_there, committed)
        for injected in run.injected:
            seen = [self._witness.progress_after(each, injected.since_ms) for each in injected.partitions]
            # A partition without progress had no frame left; if it had one, it counts as lost.
            injected.recovered_ms = max((each for each in seen if each is not None), default=None)
            if injected.fault.kind in ("kill", "end", "device-failure"):
                injected.over_ms = self._instances[injected.fault.instance].restarted_after(injected.began_ms)
        run.exits = {instance.name: dict(instance.exits) for instance in self._instances}

    # ------------------------------------------------------------------ small things

    @property
    def _kafka(self) -> FaultyKafka:
        assert isinstance(self._broker, FaultyKafka), "the embedded broker is not hurt"
        return self._broker

    def _ends(self, consumer: object) -> dict[int, int]:
        from kafka import TopicPartition

        partitions = [TopicPartition(self._lane.frames, number) for number in range(PARTITIONS)]
        return {each.partition: end for each, end in consumer.end_offsets(partitions).items()}  # type: ignore[attr-defined]

    def _shared(self) -> bool:
        owned = [instance.owned() for instance in self._instances]
        return all(owned) and sorted(chain.from_iterable(owned)) == list(range(PARTITIONS))

    def _look_whether_it_goes_on(self) -> None:
        for instance in self._instances:
            if instance.gave_up is not None:
                raise StoppedError(instance.gave_up)
        if not self._under_way() and time.monotonic() - self._witness.last_at > STOPPED_S:
            raise StoppedError(f"no verdict for {STOPPED_S:.0f} s")

    def _wait(self, reached: Callable[[], object], patience_s: float, what: str) -> None:
        deadline = time.monotonic() + patience_s
        while not reached():
            if time.monotonic() > deadline:
                raise StoppedError(what)
            time.sleep(LOOK_S)

    def _tell(self, what: str, *, now: bool = False) -> None:
        """A line of progress now and then, for whoever watches a long run."""
        if now or time.monotonic() - self._told_at > TELL_S:
            self._told_at = time.monotonic()
            exits = sum(sum(instance.exits.values()) for instance in self._instances)
            print(
                f"{time.monotonic() - self._began:6.0f} s: {self._stream.number:,} frames sent, "
                f"{self._witness.verdicts:,} verdicts seen, {len(self.run_.injected)} faults, {exits} exits {what}",
                file=sys.stderr,
                flush=True,
            )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
