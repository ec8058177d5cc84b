from __future__ import annotations

import socket

import pytest

from daemon.errors import BrokerError, BrokerUnreachableError
from daemon.kafka import probe as module
from daemon.kafka.probe import probe, split_address
from daemon.settings import Security
from engines.errors import UsageError
from tests.daemon.kafka.fake_broker import (
    CERTIFICATES,
    FakeBroker,
    Talk,
    hang_up,
    kafka,
    silence,
    tls,
    tls_port,
    web_server,
)

PLAIN = Security()
TLS = Security(protocol="ssl", ca_file=CERTIFICATES / "ca.pem")
CLIENT = Security(protocol="ssl", ca_file=CERTIFICATES / "ca.pem", cert_file=CERTIFICATES / "client.pem")
STRANGER = Security(protocol="ssl", ca_file=CERTIFICATES / "ca.pem", cert_file=CERTIFICATES / "stranger.pem")
UNTRUSTING = Security(protocol="ssl", ca_file=CERTIFICATES / "stranger.pem")
LOGIN = Security.model_validate({"protocol": "sasl_plaintext", "username": "line", "password": "secret"})


@pytest.fixture(autouse=True)
def _short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.3)


@pytest.mark.parametrize(
    ("talk", "security"),
    [
        (kafka(), PLAIN),
        (tls(kafka()), TLS),
        (tls(kafka(), client_certificate=True), CLIENT),
        (kafka(), LOGIN),
    ],
)
def test_what_fits_is_fine(talk: Talk, security: Security, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 5.0)
    with FakeBroker(talk) as broker:
        probe("localhost", broker.port, security)


@pytest.mark.parametrize(
    ("talk", "security", "complaint"),
    [
        (tls_port, PLAIN, "this is a TLS port: set kafka.security.protocol to ssl or sasl_ssl"),
        (web_server, PLAIN, "answers, but not as a Kafka broker does: is the port right?"),
        (hang_up, TLS, "this is a plaintext port: set kafka.security.protocol to plaintext or sasl_plaintext"),
        (tls(kafka()), UNTRUSTING, "its certificate is not trusted"),
        (tls(kafka(), client_certificate=True), TLS, "wants a client certificate"),
        (tls(kafka(), client_certificate=True), STRANGER, "refused this client's certificate"),
        (kafka(handshake=34), LOGIN, "takes no login on this port"),
        (kafka(handshake=33, mechanisms=("PLAIN", "GSSAPI")), LOGIN, "the login SCRAM-SHA-512, only PLAIN, GSSAPI"),
    ],
)
def test_what_does_not_fit_is_a_refusal(
    talk: Talk, security: Security, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 5.0)
    with FakeBroker(talk) as broker:
        with pytest.raises(BrokerError) as caught:
            probe("localhost", broker.port, security)
        assert type(caught.value) is BrokerError
        assert str(caught.value).startswith(f"broker localhost:{broker.port}: ")
        assert complaint in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("talk", "security", "complaint"),
    [
        (hang_up, PLAIN, "hung up at once"),
        (silence, PLAIN, "does not answer within"),
        (silence, TLS, "does not answer within"),
        (tls(silence), TLS, "does not answer within"),
    ],
)
def test_what_may_mend_itself_is_unreachable(talk: Talk, security: Security, complaint: str) -> None:
    with FakeBroker(talk) as broker, pytest.raises(BrokerUnreachableError, match=complaint):
        probe("localhost", broker.port, security)


def test_a_certificate_must_name_the_host_unless_told_otherwise() -> None:
    with FakeBroker(tls(kafka())) as broker:
        with pytest.raises(BrokerError, match=r"is for another host \(.*127\.0\.0\.1"):
            probe("127.0.0.1", broker.port, TLS)
        probe("127.0.0.1", broker.port, TLS.model_copy(update={"check_hostname": False}))


def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(BrokerUnreachableError, match=rf"broker 127\.0\.0\.1:{port}: connection refused"):
        probe("127.0.0.1", port, PLAIN)


def test_the_name_does_not_resolve() -> None:
    # RFC 6761 keeps this name from ever resolving.
    with pytest.raises(BrokerUnreachableError, match=r"the name broker\.invalid does not resolve"):
        probe("broker.invalid", 9092, PLAIN)


def test_the_host_drops_packets() -> None:
    # A listener whose backlog is full: the kernel answers no further greeting.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        try:
            for _ in range(4):
                client = socket.socket()
                waiting.append(client)
                client.setblocking(False)
                client.connect_ex(listener.getsockname())
            with pytest.raises(BrokerUnreachableError, match="no answer within 0 s: the host is down or a firewall"):
                probe("127.0.0.1", listener.getsockname()[1], PLAIN)
        finally:
            for client in waiting:
                client.close()


def test_a_key_under_a_password_needs_it() -> None:
    values = {
        "protocol": "ssl",
        "ca_file": CERTIFICATES / "ca.pem",
        "cert_file": CERTIFICATES / "client.pem",
        "key_file": CERTIFICATES / "client-locked.key",
    }
    with FakeBroker(tls(kafka(), client_certificate=True)) as broker:
        probe("localhost", broker.port, Security.model_validate({**values, "key_password": "hunter2"}))
        with pytest.raises(UsageError, match=r"kafka\.security\.cert_file, key_file: cannot use .*client-locked\.key"):
            probe("localhost", broker.port, Security.model_validate(values))


@pytest.mark.parametrize(
    ("address", "parts"),
    [("broker:9092", ("broker", 9092)), ("[::1]:9093", ("::1", 9093)), ("10.0.0.1:1", ("10.0.0.1", 1))],
)
def test_addresses(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address) == parts
