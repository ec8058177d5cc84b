"""The service as a process of its own, watched from outside: its log, its account and its memory."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import IO, Any, Self, cast

from daemon.bench.machine import resident_bytes
from daemon.daemon_process import DRAIN_S, READY_S, start_daemon
from engines.errors import MillwatchError

SAMPLE_S = 0.25
"""Time between two looks at its memory."""

KEPT_LINES = 20
"""Lines of its log that are shown when it fails."""


class ServiceProcess:
    """``millwatch run`` with these arguments; a context manager that ends it.

    Its log is read as JSON, whatever the arguments say of it.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        # Of two values for a key the last one counts.
        self._arguments = [*arguments, "--set", "log.format=json", "--set", "log.level=info"]
        self._process: subprocess.Popen[bytes] | None = None
        self._threads: list[threading.Thread] = []
        self._changed = threading.Condition()
        self._entries: dict[str, Mapping[str, Any]] = {}
        self._tail: deque[str] = deque(maxlen=KEPT_LINES)
        self._ended = threading.Event()
        self.peak_resident_bytes = 0

    def __enter__(self) -> Self:
        self._process = process = start_daemon(self._arguments, os.environ, subprocess.PIPE)
        log = cast(IO[bytes], process.stdout)
        self._threads = [
            threading.Thread(target=self._read_log, args=(log,), name="service-log", daemon=True),
            threading.Thread(target=self._watch_memory, args=(process.pid,), name="service-memory", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        process = cast(subprocess.Popen[bytes], self._process)
        if process.poll() is None:
            process.kill()
            process.wait()
        self._ended.set()
        for thread in self._threads:
            thread.join()

    @property
    def pid(self) -> int:
        """Its process id."""
        return cast(subprocess.Popen[bytes], self._process).pid

    def wait_until_reading(self) -> None:
        """Return when the group has given it its partitions."""
        self._entry("partitions assigned", READY_S)

    def stop(self) -> Mapping[str, Any]:
        """Ask it to drain and end, and wait for that; returns the account that it logs of its frames."""
        process = cast(subprocess.Popen[bytes], self._process)
        process.terminate()
        account = self._entry("account", DRAIN_S)
        code = process.wait(DRAIN_S)
        if code != 0:
            raise self._failed(f"ended with {code}")
        return account

    def _entry(self, event: str, timeout_s: float) -> Mapping[str, Any]:
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while event not in self._entries:
                left = deadline - time.monotonic()
                if self._ended.is_set() or left <= 0:
                    raise self._failed(f"did not log {event!r}")
                self._changed.wait(left)
            return self._entries[event]

    def _failed(self, what: str) -> MillwatchError:
        return MillwatchError("\n".join([f"the service under measurement {what}; its last words:", *self._tail]))

    def _read_log(self, log: IO[bytes]) -> None:
        with log:
            for line in log:
                text = line.decode(errors="replace").rstrip()
                try:
                    entry = json.loads(text)
                except ValueError:
                    entry = {"event": text}
                with self._changed:
                    self._tail.append(text)
                    self._entries[str(entry.get("event"))] = entry
                    self._changed.notify_all()
        with self._changed:
            self._ended.set()
            self._changed.notify_all()

    def _watch_memory(self, pid: int) -> None:
        while not self._ended.wait(SAMPLE_S):
            self.peak_resident_bytes = max(self.peak_resident_bytes, resident_bytes(pid) or 0)
