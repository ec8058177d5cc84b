from __future__ import annotations

import socket
import threading
from http.client import HTTPConnection
from typing import Any

import pytest

from daemon.http import ProbeServer
from daemon.metrics import Metrics
from engines.errors import UsageError


def get(server: ProbeServer, path: str, method: str = "GET") -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_the_probes_and_metrics() -> None:
    state: dict[str, Any] = {"answer": (False, "the broker does not answer")}
    metrics = Metrics()
    metrics.bytes_taken.inc(17)
    with ProbeServer("127.0.0.1", 0, metrics, lambda: state["answer"]) as server:
        assert get(server, "/healthz") == (200, "alive\n")
        assert get(server, "/readyz") == (503, "the broker does not answer\n")
        state["answer"] = (True, "taking frames")
        assert get(server, "/readyz?verbose") == (200, "taking frames\n")
        status, text = get(server, "/metrics")
        assert status == 200
        assert "millwatch_taken_bytes_total 17.0" in text
        assert get(server, "/nothing")[0] == 404
        assert get(server, "/healthz", "POST")[0] == 501


def test_it_ends_with_its_thread_and_frees_the_port() -> None:
    with ProbeServer("127.0.0.1", 0, Metrics(), lambda: (True, "")) as server:
        assert any(thread.name == "http" for thread in threading.enumerate())
        port = server.port
    assert not any(thread.name == "http" for thread in threading.enumerate())
    with ProbeServer("127.0.0.1", port, Metrics(), lambda: (True, "")) as server:
        assert get(server, "/healthz")[0] == 200


def test_a_busy_port_is_an_error_for_the_user() -> None:
    with ProbeServer("127.0.0.1", 0, Metrics(), lambda: (True, "")) as server:
        with pytest.raises(UsageError, match=rf"cannot listen on 127\.0\.0\.1:{server.port} .*http\.port") as caught:
            ProbeServer("127.0.0.1", server.port, Metrics(), lambda: (True, ""))
        assert caught.value.exit_code == 2


def test_a_silent_client_holds_up_nobody() -> None:
    with (
        ProbeServer("127.0.0.1", 0, Metrics(), lambda: (True, "ready")) as server,
        socket.create_connection(("127.0.0.1", server.port)),
    ):
        assert get(server, "/readyz") == (200, "ready\n")


def test_a_client_that_hangs_up_writes_nothing_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    entered, leave = threading.Event(), threading.Event()

    def slow() -> tuple[bool, str]:
        entered.set()
        leave.wait(10)
        return True, "x" * 10_000_000

    with ProbeServer("127.0.0.1", 0, Metrics(), slow) as server:
        client = socket.create_connection(("127.0.0.1", server.port))
        client.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
        assert entered.wait(10)
        # A reset, not a farewell: the answer meets a closed connection.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        client.close()
        leave.set()
        assert get(server, "/healthz")[0] == 200
    assert "Traceback" not in capfd.readouterr().err
