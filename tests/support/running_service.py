"""The service in a thread, with its probes, for tests that give its broker trouble."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from unittest.mock import patch

from daemon import service
from daemon.accounting import Account
from daemon.embedded_broker import free_port
from daemon.settings import Settings
from tests.support.topics import Lane

PATIENCE_S = 60.0
LOOK_S = 0.1


class Running:
    """A service that runs. ``error`` is what it ended with."""

    def __init__(self, settings: Settings) -> None:
        self._life = service._Life()
        self._port = settings.http.port
        self._settings = settings
        self.error: BaseException | None = None
        self.ended = threading.Event()
        with patch.object(service, "_Life", lambda: self._life):
            self._thread = threading.Thread(target=self._run, name="service")
            self._thread.start()
            wait_until(lambda: self.ended.is_set() or self.probe("/healthz")[0] == 200, "the service answers")

    def _run(self) -> None:
        try:
            service.run_service(self._settings)
        except BaseException as error:  # noqa: BLE001 - a test looks at it
            self.error = error
        finally:
            self.ended.set()

    @property
    def account(self) -> Account:
        """What has become of the frames."""
        return self._line.account

    @property
    def _line(self) -> service.Line:
        line = self._life._line
        assert line is not None, "there is no line yet"
        return line

    @property
    def aborts(self) -> int:
        return self._line.aborts

    @property
    def rebalances(self) -> int:
        return self._line.rebalances

    def probe(self, path: str) -> tuple[int, str]:
        """Status and text of a path."""
        connection = HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode().strip()
        except OSError:
            return 0, "no answer"
        finally:
            connection.close()

    def wait_for_ready(self, *, ready: bool, within_s: float = PATIENCE_S) -> str:
        """Wait until ``/readyz`` says so; returns its text."""
        status = 200 if ready else 503
        wait_until(lambda: self.probe("/readyz")[0] == status, f"/readyz says {status}", within_s, self._state)
        return self.probe("/readyz")[1]

    def wait_for_trouble(self, *words: str, within_s: float = PATIENCE_S) -> None:
        """Wait until ``/readyz`` says 503 and one of these words."""

        def told() -> bool:
            status, text = self.probe("/readyz")
            return status == 503 and any(word in text for word in words)

        wait_until(told, f"/readyz tells of {words}", within_s, self._state)

    def wait_for_partitions(self) -> None:
        """Wait until the group has given it partitions."""
        wait_until(
            lambda: self._life._line is not None and self._life._line.rebalances > 0,
            "it has its partitions",
            describe=self._state,
        )

    def wait_for_settled(self, frames: int) -> None:
        """Wait until so many frames have a verdict."""

        def settled() -> bool:
            assert self.error is None, self.error
            if self._life._line is None:
                return False
            account = self.account
            return account.clean + account.defective + account.dead.total() >= frames

        wait_until(settled, f"{frames} frames have a verdict", describe=self._state)

    def stop(self) -> None:
        """Let it drain and end."""
        self._life.stop()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the service did not end"

    def wait_for_end(self) -> BaseException | None:
        """Wait until it ends by itself; returns what it ended with."""
        wait_until(self.ended.is_set, "the service ends", describe=self._state)
        self._thread.join(PATIENCE_S)
        return self.error

    def _state(self) -> str:
        line = self._life._line
        return f"/readyz {self.probe('/readyz')}, error {self.error!r}, account {line and line.account}"


@contextmanager
def running(lane: Lane, *overrides: str) -> Iterator[Running]:
    """A service on this lane, stopped at the end; what it ended with is raised where the test did not look at it."""
    service_ = Running(lane.settings(*overrides, f"http.port={free_port()}"))
    try:
        yield service_
    finally:
        service_.stop()


def run(lane: Lane, frames: int, *overrides: str) -> Account:
    """Run a service on this lane until so many frames have a verdict; what has become of all that it took."""
    with running(lane, *overrides) as service_:
        service_.wait_for_settled(frames)
    if service_.error is not None:
        raise service_.error
    return service_.account


def wait_until(
    met: Callable[[], bool], what: str, within_s: float = PATIENCE_S, describe: Callable[[], str] = lambda: ""
) -> None:
    """Wait until a condition is met; fails with what was waited for."""
    deadline = time.monotonic() + within_s
    while not met():
        assert time.monotonic() < deadline, f"waited {within_s:.0f} s in vain until {what}; {describe()}"
        time.sleep(LOOK_S)
