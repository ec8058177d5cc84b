"""``millwatch run`` as a process of its own, the way a supervisor starts it."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import IO

import yaml

import daemon
from daemon.errors import UncommittedError
from daemon.settings import Settings

READY_S = 120.0
"""How long the daemon may take until it takes frames: its engines may have to be loaded first."""

DRAIN_S = 60.0
"""How long the daemon may take to finish the frames in hand after SIGTERM."""

PROBE_S = 0.1

LOG_FILE = "daemon.log"


def start_daemon(
    arguments: Sequence[str], environment: Mapping[str, str], output: IO[bytes] | int
) -> subprocess.Popen[bytes]:
    """Start ``millwatch run`` with these arguments; all that it writes goes to ``output``, a file or a pipe.

    It runs the same code as this process, wherever it is started, and has a session of its own: Ctrl-C in the terminal
    is for us, who then end the daemon in order.
    """
    paths = [str(Path(daemon.__file__).parents[1]), *filter(None, [environment.get("PYTHONPATH")])]
    return subprocess.Popen(
        # -P keeps the working folder out of what is imported.
        [sys.executable, "-P", "-m", "daemon", "run", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env={**environment, "PYTHONPATH": os.pathsep.join(paths)},
        start_new_session=True,
    )


class DaemonProcess:
    """The daemon with these settings; a context manager that ends it in any case.

    ``folder`` gets its configuration, ``config.yaml``, and its log, ``daemon.log``. The settings have an HTTP port and
    no secrets: a file would show them.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings = settings
        self.config = folder / "config.yaml"
        self.log = folder / LOG_FILE
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> DaemonProcess:
        values = self._settings.model_dump(mode="json", exclude={"kafka": {"security"}})
        self.config.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
        # The file has all that the environment says, and what must differ from it.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MILLWATCH_")}
        with self.log.open("wb") as log:
            self._process = start_daemon(["--config", str(self.config)], environment, log)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._end(self._process)

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None, "the daemon runs only inside the context"
        return self._process.pid

    def wait_ready(self) -> float:
        """Wait until the daemon takes frames; returns how long that took, in seconds.

        Raises :class:`UncommittedError` where it ends instead, or takes too long.
        """
        started = time.monotonic()
        while not self._ready():
            self.check()
            if time.monotonic() - started > READY_S:
                raise UncommittedError(f"the daemon is not ready after {READY_S:.0f} s: see {self.log}")
            time.sleep(PROBE_S)
        return time.monotonic() - started

    def check(self) -> None:
        """Raise :class:`UncommittedError` where the daemon has ended."""
        code = None if self._process is None else self._process.poll()
        if code is not None:
            raise UncommittedError(f"the daemon ended with code {code}: see {self.log}: {self._last_line()}")

    def stop(self) -> None:
        """Ask the daemon to drain and end. Raises :class:`UncommittedError` unless it ends with 0."""
        if self._process is not None:
            code = self._end(self._process)
            if code:
                raise UncommittedError(f"the daemon ended with code {code}: see {self.log}: {self._last_line()}")

    def _end(self, process: subprocess.Popen[bytes]) -> int:
        self._process = None
        process.terminate()
        try:
            return process.wait(DRAIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def _ready(self) -> bool:
        connection = http.client.HTTPConnection(self._settings.http.host, self._settings.http.port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == HTTPStatus.OK
        except OSError:
            return False
        finally:
            connection.close()

    def _last_line(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "it is empty"
