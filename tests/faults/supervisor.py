"""Instances of the service under a supervisor that starts them again, as systemd does with ``Restart=on-failure``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[2]

RESTART_S = 0.1
"""Pause before a restart, systemd's own default."""

FOR_GOOD = frozenset({2, 3, 4})
"""Exit codes after which docs/operations.md says not to start again: somebody has to mend something first."""

END_S = 90.0
"""How long an instance may take to drain and end."""


@dataclass(frozen=True, slots=True)
class Life:
    """One process of an instance; times in milliseconds since 1970. ``asked`` where the rig ended it."""

    started_ms: int
    ended_ms: int
    code: int
    asked: bool


class Instance:
    """One ``millwatch run`` after another, under the same name. Thread ``supervisor-<name>``.

    ``prefix`` comes before the command, to run it in a namespace; ``module`` is what Python runs instead of ``daemon``.
    """

    def __init__(
        self,
        name: str,
        overrides: Sequence[str],
        folder: Path,
        *,
        prefix: Sequence[str] = (),
        module: str = "daemon",
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._command = [*prefix, sys.executable, "-m", module, "run"]
        for override in [*overrides, f"kafka.instance={name}", "log.format=json"]:
            self._command += ["--set", override]
        self.lives: list[Life] = []
        self.gave_up: str | None = None
        self._owned: list[int] = []
        self._draining = False
        self._read_to = 0
        self._asked = False
        self._stopping = False
        self._process: subprocess.Popen[bytes] | None = None
        self._started_ms = 0
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._supervise, name=f"supervisor-{name}")

    def start(self) -> None:
        self.log.touch()
        self._thread.start()

    def kill(self) -> None:
        """End it as a crash would, and wait until it has ended."""
        self._signal(signal.SIGKILL, asked=True)

    def end(self) -> None:
        """Ask it to drain and end; it is started again after that."""
        self._signal(signal.SIGTERM, asked=True, wait=False)

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP, asked=False)

    def resume(self) -> None:
        self._signal(signal.SIGCONT, asked=False)

    def fail_device(self) -> None:
        """Let its device fail for good, as :mod:`tests.faults.failing_engines` does when it is told."""
        self._signal(signal.SIGUSR1, asked=False)

    def stop(self) -> int | None:
        """Drain and end it for good; returns its exit code, None where it had ended before."""
        with self._changed:
            self._stopping = self._asked = True
            process = self._process
            self._changed.notify_all()
        code = None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                code = process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait()
        self._thread.join()
        return code

    @property
    def pid(self) -> int | None:
        with self._changed:
            return None if self._process is None else self._process.pid

    @property
    def exits(self) -> Counter[int]:
        """How often it ended with which code; those of signals are negative."""
        return Counter(life.code for life in self.lives)

    def restarted_after(self, began_ms: int) -> int | None:
        """When the first process was started that started after a time."""
        starts = [*(life.started_ms for life in self.lives), self._started_ms]
        return next((start for start in starts if start > began_ms), None)

    def owned(self) -> list[int]:
        """The partitions that it owns, by its own log. A static member that is away owns what it had."""
        with self.log.open("rb") as log:
            log.seek(self._read_to)
            for line in log:
                if not line.endswith(b"\n"):
                    break
                self._read_to += len(line)
                self._look_at(line)
        return list(self._owned)

    def last_lines(self, count: int = 3) -> list[str]:
        return self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-count:]

    def _look_at(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
        except ValueError:
            return
        event, partitions = str(entry.get("event")), entry.get("partitions", [])
        if event == "partitions assigned":
            self._owned, self._draining = partitions, False
        elif event.startswith("stopping"):
            self._draining = True
        elif event in ("partitions move", "partitions lost") and not self._draining:
            self._owned = [each for each in self._owned if each not in partitions]

    def _signal(self, number: signal.Signals, *, asked: bool, wait: bool = True) -> None:
        with self._changed:
            # It may be between two lives.
            self._changed.wait_for(lambda: self._process is not None or self.gave_up is not None, END_S)
            process = self._process
            if process is None:
                return
            self._asked |= asked
            process.send_signal(number)
        if number is signal.SIGKILL and wait:
            process.wait()

    def _supervise(self) -> None:
        with self.log.open("ab") as output:
            while self._spawn(output):
                process = self._process
                assert process is not None
                code = process.wait()
                with self._changed:
                    asked, self._asked = self._asked, self._stopping
                    self.lives.append(Life(self._started_ms, _now_ms(), code, asked))
                    self._process = None
                    if (code in FOR_GOOD or (code == 0 and not asked)) and not self._stopping:
                        self.gave_up = f"{self.name} ended with {code}: {' '.join(self.last_lines(1))}"
                    self._changed.notify_all()
                    if self.gave_up is not None or self._changed.wait_for(lambda: self._stopping, RESTART_S):
                        return

    def _spawn(self, output: IO[bytes]) -> bool:
        with self._changed:
            if self._stopping:
                return False
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                start_new_session=True,
            )
            self._started_ms = _now_ms()
            self._changed.notify_all()
            return True


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
