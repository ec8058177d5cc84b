"""A consumer of the service's, in a process of its own, that can be stalled.

``python -m tests.faults.reader BOOTSTRAP EVENTS DEAD`` reads both topics from their beginning with ``read_committed``
and writes a line for each record: the topic, the frame's partition and offset, and its verdict.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from tests.faults.comparison import Verdict
from tests.faults.supervisor import ROOT
from tests.faults.witness import QUIET_S, event_verdict, letter_verdict, open_reader


class StalledReader:
    """The process for the length of the context, and what it has read."""

    def __init__(self, bootstrap: str, events: str, dead: str, folder: Path) -> None:
        self._command = [sys.executable, "-m", "tests.faults.reader", bootstrap, events, dead]
        self._output = folder / "reader.txt"

    def __enter__(self) -> Self:
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def stall(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def seen(self, records: int) -> tuple[list[Verdict], list[Verdict]]:
        """Events and dead letters, once there are so many ``records`` or no more come."""
        lines, last = self._lines(), time.monotonic()
        while len(lines) < records and time.monotonic() - last < QUIET_S:
            time.sleep(0.2)
            before, lines = lines, self._lines()
            if len(lines) > len(before):
                last = time.monotonic()
        found: dict[str, list[Verdict]] = {"event": [], "letter": []}
        for line in lines:
            kind, partition, offset, verdict = line.split(" ", 3)
            found[kind].append(Verdict((int(partition), int(offset)), verdict))
        return found["event"], found["letter"]

    def _lines(self) -> list[str]:
        whole, _, _ = self._output.read_text(encoding="utf-8").rpartition("\n")
        return whole.splitlines()


def main(bootstrap: str, events: str, dead: str) -> None:
    consumer = open_reader(bootstrap, events, dead)
    while True:
        for partition, records in consumer.poll(200).items():
            for record in records:
                kind, verdict = (
                    ("event", event_verdict(record))
                    if partition.topic == events
                    else ("letter", letter_verdict(record))
                )
                print(kind, *verdict.place, verdict.verdict)
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
