"""Probes and metrics over HTTP: ``/healthz``, ``/readyz``, ``/metrics``."""

from __future__ import annotations

import socket
import socketserver
import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

import structlog
from prometheus_client import CONTENT_TYPE_LATEST

from daemon.metrics import Metrics
from engines.errors import UsageError

log = structlog.get_logger(__name__)

TEXT = "text/plain; charset=utf-8"

REQUEST_TIMEOUT_S = 5.0
"""How long a client may take over its request: a silent one must not hold a thread for ever."""

Readiness = Callable[[], tuple[bool, str]]


class ProbeServer:
    """Serves the probes from a thread of its own; a context manager that starts and ends it.

    ``readiness`` says whether frames are being taken or would be, and why not; it and the metrics are read from the
    server's threads. Port 0 takes a free one, :attr:`port` tells which. Raises :class:`UsageError` where the address
    cannot be listened on.
    """

    def __init__(self, host: str, port: int, metrics: Metrics, readiness: Readiness) -> None:
        handler = type("Handler", (_Handler,), {"metrics": metrics, "readiness": staticmethod(readiness)})
        try:
            self._server = _Server((host, port), handler)
        except (OSError, OverflowError) as error:
            raise UsageError(
                f"cannot listen on {host}:{port} ({error}): set http.port to a free port, or to 0 for no HTTP"
            ) from None
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="http", daemon=True
        )

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1])

    def __enter__(self) -> ProbeServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def server_bind(self) -> None:
        # HTTPServer asks DNS for the host's full name here, which nothing needs and which may take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - the base class's form
        """A client that went away is no news; the base class would write a traceback to standard error."""
        log.debug("http request failed", client=client_address, error=repr(sys.exception()))


class _Handler(BaseHTTPRequestHandler):
    metrics: Metrics
    readiness: Readiness
    timeout = REQUEST_TIMEOUT_S
    server_version = "millwatch"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer one of the three paths."""
        match self.path.partition("?")[0]:
            case "/healthz":
                self._answer(HTTPStatus.OK, TEXT, b"alive\n")
            case "/readyz":
                ready, reason = self.readiness()
                status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
                self._answer(status, TEXT, f"{reason}\n".encode())
            case "/metrics":
                self._answer(HTTPStatus.OK, CONTENT_TYPE_LATEST, self.metrics.exposition())
            case _:
                self._answer(HTTPStatus.NOT_FOUND, TEXT, b"/healthz /readyz /metrics\n")

    def _answer(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Requests are no news; scrapes would fill the log."""
        log.debug("http request", request=format % args)
