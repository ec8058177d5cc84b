"""What a socket alone can find out about a broker's address.

The client ends every failure to connect with the same timeout. A name that does not resolve, a broker that is down, the
wrong kind of port and a refused certificate look different on the wire, so this looks there first.
"""

from __future__ import annotations

import socket
import ssl
import struct
from typing import Final

from daemon.errors import BrokerError, BrokerUnreachableError
from daemon.kafka.clients import tls_context
from daemon.settings import Security

TIMEOUT_S: Final = 5.0

MAX_ANSWER_BYTES: Final = 1_000_000
"""An answer said to be longer is none of Kafka's; Apache Kafka 4.3 needs 500 bytes for its versions."""

TLS_ALERT: Final = 0x15
"""First byte of a TLS alert record (RFC 8446, section 5.1): what a TLS port says to a client without TLS."""

HOST_MISMATCHES: Final = (62, 64)
"""What OpenSSL calls a certificate that does not name the host, or not its address: X509_V_ERR_HOSTNAME_MISMATCH and
X509_V_ERR_IP_ADDRESS_MISMATCH."""

# The two requests that a listener answers before any login, by their numbers in Kafka's protocol.
API_VERSIONS: Final = 18
SASL_HANDSHAKE: Final = 17
UNSUPPORTED_SASL_MECHANISM: Final = 33
ILLEGAL_SASL_STATE: Final = 34

_CLIENT_ID: Final = b"millwatch-check"


def split_address(address: str) -> tuple[str, int]:
    """Host and port of ``host:port``; an IPv6 address is in brackets."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def probe(host: str, port: int, security: Security) -> None:
    """Connect as the settings say, ask for the broker's versions, and offer the login's mechanism; does not log in.

    Raises :class:`BrokerUnreachableError` where no broker answers there, :class:`BrokerError` where what answers is not
    what the settings expect, :class:`UsageError` where a certificate file cannot be used.
    """
    context = tls_context(security) if security.tls else None
    place = f"broker {host}:{port}"
    with _connection(host, port, place) as connection:
        try:
            if context is None:
                _ask_plain(connection, place)
                _offer_login(connection, place, security)
            else:
                with _secured(connection, context, host, place) as secured:
                    _ask_secured(secured, place, has_certificate=security.cert_file is not None)
                    _offer_login(secured, place, security)
        except TimeoutError:
            raise BrokerUnreachableError(
                f"{place}: accepts connections, but does not answer within {TIMEOUT_S:.0f} s: a stuck broker, "
                "or a port with another kafka.security.protocol"
            ) from None
        except OSError as error:
            raise BrokerUnreachableError(f"{place}: the connection broke: {error.strerror or error}") from None


def _connection(host: str, port: int, place: str) -> socket.socket:
    try:
        return socket.create_connection((host, port), timeout=TIMEOUT_S)
    except socket.gaierror as error:
        raise BrokerUnreachableError(
            f"{place}: the name {host} does not resolve ({error.strerror}): see kafka.bootstrap"
        ) from None
    except ConnectionRefusedError:
        raise BrokerUnreachableError(
            f"{place}: connection refused: nothing listens on that port: start the broker, or see kafka.bootstrap"
        ) from None
    except TimeoutError:
        raise BrokerUnreachableError(
            f"{place}: no answer within {TIMEOUT_S:.0f} s: the host is down or a firewall drops packets: "
            "see kafka.bootstrap"
        ) from None
    except OSError as error:
        raise BrokerUnreachableError(f"{place}: cannot connect: {error.strerror or error}") from None


def _ask_plain(connection: socket.socket, place: str) -> None:
    try:
        connection.sendall(_request(API_VERSIONS, 0))
        start = _receive(connection, 4)
    except ConnectionError:
        start = b""
    if start[:1] == bytes([TLS_ALERT]):
        raise BrokerError(f"{place}: this is a TLS port: set kafka.security.protocol to ssl or sasl_ssl")
    if not start:
        raise BrokerUnreachableError(f"{place}: hung up at once: it is starting, or a TLS port, or no Kafka broker")
    _answer(connection, start, place)


def _secured(connection: socket.socket, context: ssl.SSLContext, host: str, place: str) -> ssl.SSLSocket:
    try:
        return context.wrap_socket(connection, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        told = error.verify_message.rstrip(".")
        if error.verify_code in HOST_MISMATCHES:
            raise BrokerError(
                f"{place}: its certificate is for another host ({told}): put a name that it has into kafka.bootstrap, "
                "or set kafka.security.check_hostname to false"
            ) from None
        raise BrokerError(
            f"{place}: its certificate is not trusted ({told}): kafka.security.ca_file must have the authority "
            "that signed it"
        ) from None
    except (ssl.SSLEOFError, ConnectionError):
        # Kafka reads a TLS greeting as the length of a request, finds it too large and hangs up.
        raise BrokerError(
            f"{place}: hung up on the TLS greeting: this is a plaintext port: "
            "set kafka.security.protocol to plaintext or sasl_plaintext"
        ) from None
    except ssl.SSLError as error:
        raise BrokerError(f"{place}: no TLS connection: {error.reason or error}") from None


def _ask_secured(secured: ssl.SSLSocket, place: str, *, has_certificate: bool) -> None:
    # TLS 1.3 refuses a client's certificate only after the handshake, at the first read.
    reason = "connection closed"
    try:
        secured.sendall(_request(API_VERSIONS, 0))
        start = _receive(secured, 4)
    except (ssl.SSLError, ConnectionError) as error:
        start, reason = b"", str(getattr(error, "reason", error.strerror))
    if start:
        _answer(secured, start, place)
    elif has_certificate:
        raise BrokerError(
            f"{place}: refused this client's certificate ({reason}): it must be in date and signed by an authority "
            "that the broker trusts (kafka.security.cert_file)"
        )
    else:
        raise BrokerError(f"{place}: wants a client certificate ({reason}): set kafka.security.cert_file and key_file")


def _offer_login(connection: socket.socket, place: str, security: Security) -> None:
    if not security.sasl:
        return
    mechanism = security.sasl_mechanism.encode()
    connection.sendall(_request(SASL_HANDSHAKE, 1, struct.pack(">h", len(mechanism)) + mechanism))
    answer = _answer(connection, _receive(connection, 4), place)
    (code,) = struct.unpack_from(">h", answer)
    if code == ILLEGAL_SASL_STATE:
        raise BrokerError(f"{place}: takes no login on this port: set kafka.security.protocol without sasl")
    if code == UNSUPPORTED_SASL_MECHANISM:
        known = ", ".join(_strings(answer[2:])) or "none"
        raise BrokerError(
            f"{place}: does not know the login {security.sasl_mechanism}, only {known}: "
            "set kafka.security.sasl_mechanism"
        )


def _request(key: int, version: int, body: bytes = b"") -> bytes:
    """A request with header version 1: length, key, version, correlation id (the key again), client id, body."""
    content = struct.pack(">hhih", key, version, key, len(_CLIENT_ID)) + _CLIENT_ID + body
    return struct.pack(">i", len(content)) + content


def _answer(connection: socket.socket, start: bytes, place: str) -> bytes:
    """The body of the answer whose first four bytes, its length, are ``start``."""
    length = int.from_bytes(start, signed=True) if len(start) == 4 else -1
    content = _receive(connection, length) if 6 <= length <= MAX_ANSWER_BYTES else b""
    if len(content) < 6 or int.from_bytes(content[:4]) not in (API_VERSIONS, SASL_HANDSHAKE):
        raise BrokerError(f"{place}: answers, but not as a Kafka broker does: is the port right?")
    return content[4:]


def _receive(connection: socket.socket, length: int) -> bytes:
    """Up to ``length`` bytes; fewer where the other side hung up."""
    received = b""
    while len(received) < length and (more := connection.recv(length - len(received))):
        received += more
    return received


def _strings(array: bytes) -> list[str]:
    """The strings of an array: a count of four bytes, then for each a length of two and its bytes."""
    (count,), at, strings = struct.unpack_from(">i", array), 4, []
    for _ in range(count):
        (length,) = struct.unpack_from(">h", array, at)
        strings.append(array[at + 2 : at + 2 + length].decode(errors="replace"))
        at += 2 + length
    return strings
