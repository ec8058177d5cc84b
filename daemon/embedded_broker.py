"""A Kafka broker in one process, for the demo, the tests and development: noida-db, on loopback only.

It is not for production: one machine, one file, no security. It comes with the extra ``demo``.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import IO

from daemon.errors import BrokerUnreachableError
from engines.errors import UsageError

HOST = "127.0.0.1"

START_S = 15.0
"""How long the broker may take to listen; it takes well under one second on an idle machine."""

END_S = 10.0
"""How long the broker may take to write its data and end."""

PROBE_S = 0.02


class EmbeddedBroker:
    """A broker that lives as long as the context.

    ``port`` 0 takes a free one. Without ``data_dir`` the data is in a temporary folder that ends with the context, and
    stays only where the broker does not start, with its log. Raises :class:`UsageError` where the extra is not
    installed, :class:`BrokerUnreachableError` where the broker does not start.
    """

    def __init__(self, port: int = 0, data_dir: Path | None = None) -> None:
        self._binary = _binary()
        self.port = port or free_port()
        self._own_folder = data_dir is None
        self.data_dir = Path(tempfile.mkdtemp(prefix="millwatch-broker-")) if data_dir is None else data_dir
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """``host:port``, as ``kafka.bootstrap`` takes it."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The broker's process id while it runs."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the broker and wait until it listens.

        Raises :class:`UsageError` where the folder cannot be used or another program listens on the port.
        """
        # Waiting for somebody to listen would take that program for the broker.
        if _listens(self.port):
            raise UsageError(f"{self.bootstrap}: another program listens on this port: choose another port, or 0")
        command = [str(self._binary), "start", "--only", "kafka", "--host", HOST, "--kafka-port", str(self.port)]
        with self._open_log() as log:
            # A session of its own: Ctrl-C in a terminal is for us, who then end the broker in order.
            self._process = subprocess.Popen(
                [*command, "--data-dir", str(self.data_dir)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_it_listens(self._process)
        except BaseException:
            # Ctrl-C among them: the context is not entered yet, so nobody else would end the process.
            self._end_process()
            raise

    def wait(self) -> int:
        """Wait until the broker ends by itself; returns its exit code."""
        return 0 if self._process is None else self._process.wait()

    def kill(self) -> None:
        """End the broker as a crash would. :meth:`start` starts it again, without what it had not written yet."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End the broker in order. Data in a folder of the caller's stays for the next start, a temporary one goes."""
        self._end_process()
        if self._own_folder:
            shutil.rmtree(self.data_dir, ignore_errors=True)

    def _open_log(self) -> IO[bytes]:
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            return (self.data_dir / "broker.log").open("ab")
        except OSError as error:
            raise UsageError(f"{self.data_dir}: cannot keep the broker's data there: {error.strerror}") from None

    def _wait_until_it_listens(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_S
        while not _listens(self.port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise BrokerUnreachableError(
                    f"the embedded broker did not start on {self.bootstrap}: see {self.data_dir / 'broker.log'}"
                )
            time.sleep(PROBE_S)

    def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> EmbeddedBroker:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def _binary() -> Path:
    spec = find_spec("noida_db")
    if spec is None or spec.origin is None:
        raise UsageError("the embedded broker is not installed: pip install 'millwatch[demo]'")
    binary = Path(spec.origin).with_name("noida-db")
    if not binary.is_file():
        raise UsageError(f"the embedded broker has no program for this machine: {binary} is missing")
    if not os.access(binary, os.X_OK):
        # Wheels may be unpacked without the permission to execute; the package's own command does the same.
        binary.chmod(0o755)
    return binary


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=1):
            return True
    except OSError:
        return False
