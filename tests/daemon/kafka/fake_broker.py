"""A listener that speaks as much of Kafka's protocol as a probe asks for, or as little as a test wants."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

CERTIFICATES = Path(__file__).parent / "certificates"

Talk = Callable[[socket.socket], None]


API_VERSIONS, SASL_HANDSHAKE, METADATA = 18, 17, 3

# The requests of a broker, each from version 0 to this one.
KNOWN = {METADATA: 8, SASL_HANDSHAKE: 1, API_VERSIONS: 0, 36: 1}


@dataclass(frozen=True)
class Request:
    key: int
    version: int
    correlation: int


def request(connection: socket.socket) -> Request:
    """The next request; EOFError where the other side hung up."""
    (length,) = struct.unpack(">i", _exactly(connection, 4))
    return Request(*struct.unpack_from(">hhi", _exactly(connection, length)))


def answer(connection: socket.socket, asked: Request, body: bytes) -> None:
    connection.sendall(struct.pack(">ii", len(body) + 4, asked.correlation) + body)


def kafka(*, handshake: int = 0, mechanisms: tuple[str, ...] = ("SCRAM-SHA-512",)) -> Talk:
    """Answers versions, and the offer of a login with the error code ``handshake``; hangs up on anything else, as a
    listener does on whoever has not logged in."""

    def talk(connection: socket.socket) -> None:
        while (asked := request(connection)).key in (API_VERSIONS, SASL_HANDSHAKE):
            if asked.key == API_VERSIONS:
                versions = b"".join(struct.pack(">hhh", key, 0, last) for key, last in KNOWN.items())
                # 35 is UNSUPPORTED_VERSION, which is always told in the form of version 0.
                answer(connection, asked, struct.pack(">hi", 35 if asked.version else 0, len(KNOWN)) + versions)
            else:
                names = b"".join(struct.pack(">h", len(name)) + name.encode() for name in mechanisms)
                answer(connection, asked, struct.pack(">hi", handshake, len(mechanisms)) + names)

    return talk


def hang_up(connection: socket.socket) -> None:
    """Closes without a word."""


def web_server(connection: socket.socket) -> None:
    connection.recv(1)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def tls_port(connection: socket.socket) -> None:
    """What a TLS listener of Kafka says to bytes that are no TLS: an alert."""
    connection.recv(1)
    connection.sendall(b"\x15\x03\x03\x00\x02\x02\x50")


def silence(connection: socket.socket) -> None:
    """Reads and never answers."""
    while connection.recv(4096):
        pass


def tls(talk: Talk, *, client_certificate: bool = False) -> Talk:
    """``talk`` behind TLS, with the tests' certificate for localhost."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / "broker.pem")
    if client_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(CERTIFICATES / "ca.pem")

    def secured(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as inner:
            talk(inner)

    return secured


class FakeBroker:
    """Listens on a port of its own while the context lasts."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, name="fake-broker")

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(10)
                try:
                    self._talk(connection)
                except (OSError, EOFError):
                    continue

    def __enter__(self) -> FakeBroker:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Closing a socket does not wake the thread that accepts on it; shutting it down does.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()


def _exactly(connection: socket.socket, length: int) -> bytes:
    received = b""
    while len(received) < length:
        more = connection.recv(length - len(received))
        if not more:
            raise EOFError
        received += more
    return received
