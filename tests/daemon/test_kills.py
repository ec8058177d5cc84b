"""The daemon is killed again and again under a running stream; a reader of committed records counts what came of it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import IO

import pytest
from kafka import KafkaProducer

from tests.daemon.test_service import CLEAN, DEFECTIVE, built, png
from tests.support.topics import Lane

__all__ = ["built"]

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

KILLS = {"exactly_once": 5, "at_least_once": 3}
"""For each broker; tests.faults has more of them, and counts frame by frame."""

FRAMES_A_SECOND = 100
PATIENCE_S = 60


class Stream:
    """Puts frames on the camera topic until it is stopped: mostly defective ones, some clean, some undecodable."""

    def __init__(self, lane: Lane, frames_a_second: int = FRAMES_A_SECOND, partitions: int = 4) -> None:
        self.sent = Counter[str]()
        self._lane = lane
        self._frames_a_step = frames_a_second // 20
        self._partitions = partitions
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._feed, name="stream")
        self._thread.start()

    def _feed(self) -> None:
        values = [
            ("defective", png(DEFECTIVE)),
            ("clean", png(CLEAN)),
            ("dead", b"no picture"),
            ("defective", png(DEFECTIVE)),
        ]
        producer = KafkaProducer(bootstrap_servers=self._lane.bootstrap, linger_ms=5)
        number = 0
        while not self._stop.wait(0.05):
            for _ in range(self._frames_a_step):
                kind, value = values[number * 7 % 4]
                producer.send(self._lane.frames, value, partition=number % self._partitions)
                self.sent[kind] += 1
                number += 1
        producer.flush()
        producer.close()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


def start(lane: Lane, built: list[str], log: IO[bytes], *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "daemon", "run"]
    for override in [*lane.overrides, *built, *more]:
        command += ["--set", override]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, env=environment)


def wait_for_assignment(log: Path, seen: int, process: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + PATIENCE_S
    while (count := log.read_text().count("partitions assigned")) <= seen:
        assert process.poll() is None, log.read_text()[-2000:]
        assert time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.05)
    return count


def wait_for_offsets(lane: Lane, total: int, partitions: int = 4) -> None:
    """Wait until all input is committed, as long as the committed offsets move on."""
    committed, moved = -1, time.monotonic()
    while committed < total:
        now = lane.offsets(partitions)
        if now > committed:
            committed, moved = now, time.monotonic()
        assert time.monotonic() - moved < PATIENCE_S, f"{committed} of {total} frames are committed, and no more come"
        time.sleep(0.5)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_a_daemon_that_is_killed_loses_nothing(lane: Lane, built: list[str], tmp_path: Path, delivery: str) -> None:
    chance = random.Random(7)
    log = tmp_path / "daemon.log"
    stream = Stream(lane)
    assigned = 0
    process: subprocess.Popen[bytes] | None = None
    try:
        with log.open("wb") as output:
            for _ in range(KILLS[delivery]):
                process = start(lane, built, output, f"kafka.delivery={delivery}")
                assigned = wait_for_assignment(log, assigned, process)
                time.sleep(chance.uniform(0.1, 1.0))
                process.send_signal(signal.SIGKILL)
                process.wait()
            process = start(lane, built, output, f"kafka.delivery={delivery}")
            assigned = wait_for_assignment(log, assigned, process)
            stream.stop()
            total = stream.sent.total()
            wait_for_offsets(lane, total)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, log.read_text()[-2000:]
    finally:
        stream.stop()
        if process is not None:
            process.kill()
            process.wait()

    assert lane.offsets() == total
    events = lane.committed(lane.events, lambda seen: len(seen) >= stream.sent["defective"])
    letters = lane.committed(lane.dead, lambda seen: len(seen) >= stream.sent["dead"])
    ids = Counter(json.loads(event.value)["id"] for event in events)
    sources = Counter(dict(letter.headers)["millwatch-source"] for letter in letters)
    assert (len(ids), len(sources)) == (stream.sent["defective"], stream.sent["dead"])
    if delivery == "exactly_once":
        assert ids.total() == len(ids)
        assert sources.total() == len(sources)
