"""A real broker with TLS and logins: what fits connects, and what does not is told apart in one line."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon.embedded_broker import HOST, free_port
from daemon.kafka import diagnose
from daemon.settings import load_settings
from engines.build import build_cascade
from tests.support.secure_kafka import SecureKafka, unsigned_token
from tests.support.tiny_cascade import write_tiny_cascade

pytestmark = pytest.mark.kafka

ROOT = Path(__file__).parents[3]

PASSWORD = "correct-horse"

Overrides = Callable[[SecureKafka], list[str]]


@pytest.fixture(scope="module")
def broker(secure_kafka: SecureKafka) -> SecureKafka:
    secure_kafka.add_user("alice", PASSWORD)
    return secure_kafka


def port_of(address: str) -> str:
    return address.rpartition(":")[2]


def millwatch(folder: Path, *arguments: str, overrides: list[str]) -> subprocess.Popen[str]:
    chosen = [word for override in overrides for word in ("--set", override)]
    return subprocess.Popen(
        [sys.executable, "-m", "daemon", *arguments, *chosen],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param(lambda broker: broker.with_certificate("line"), id="client certificate"),
        pytest.param(lambda broker: broker.with_password("alice", PASSWORD), id="password from a file"),
        pytest.param(lambda broker: broker.with_token("alice"), id="token from a file"),
    ],
)
def test_what_fits_connects(broker: SecureKafka, overrides: Overrides) -> None:
    assert diagnose.check_broker(load_settings(None, overrides(broker)))


def test_the_documented_command_makes_a_user(broker: SecureKafka) -> None:
    document = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^(kafka-configs\.sh .*--entity-name millwatch .*)$", document, re.MULTILINE)
    ours = re.sub(r"--bootstrap-server \S+ --command-config \S+ ", "", command).replace("password=...", "password=new")
    broker.tool(ours)
    assert diagnose.check_broker(load_settings(None, broker.with_password("millwatch", "new")))


def written(file: Path, text: str) -> Path:
    file.write_text(text)
    return file


UNUSABLE = [
    pytest.param(
        lambda broker: broker.with_password("alice", "wrong"),
        "the login of alice: wrong user or password (kafka.security.username, password_file)",
        id="wrong password",
    ),
    pytest.param(
        lambda broker: broker.with_password("nobody", PASSWORD),
        "the login of nobody: wrong user or password (kafka.security.username, password_file)",
        id="unknown user",
    ),
    pytest.param(
        lambda broker: broker.with_token("alice", lives_s=-60),
        "the login: a token that is wrong or has expired (kafka.security.token_file)",
        id="expired token",
    ),
    pytest.param(
        lambda broker: broker.with_token_file(written(broker.folder / "none.token", "no token at all")),
        "the login: a token that is wrong or has expired (kafka.security.token_file)",
        id="no token",
    ),
    pytest.param(
        lambda broker: broker.with_token_file(
            written(broker.folder / "bare.token", unsigned_token("alice", 3600).partition(".")[2])
        ),
        "the login: a token that is wrong or has expired (kafka.security.token_file)",
        id="half a token",
    ),
    pytest.param(
        lambda broker: [each for each in broker.with_certificate("line") if "_file=" not in each or "ca_file" in each],
        "wants a client certificate (SSLV3_ALERT_BAD_CERTIFICATE): set kafka.security.cert_file and key_file",
        id="no client certificate",
    ),
    pytest.param(
        lambda broker: broker.with_certificate("line", authority="stranger"),
        "signed by an authority that the broker trusts (kafka.security.cert_file)",
        id="client certificate of an unknown authority",
    ),
    pytest.param(
        lambda broker: [*broker.with_certificate("line"), f"kafka.security.ca_file={broker.folder / 'stranger.pem'}"],
        "kafka.security.ca_file must have the authority that signed it",
        id="broker of an unknown authority",
    ),
    pytest.param(
        lambda broker: [*broker.with_certificate("line"), f"kafka.bootstrap=localhost:{port_of(broker.tls)}"],
        "put a name that it has into kafka.bootstrap, or set kafka.security.check_hostname to false",
        id="certificate for another host",
    ),
    pytest.param(
        lambda broker: [f"kafka.bootstrap={broker.tls}"],
        "this is a TLS port: set kafka.security.protocol to ssl or sasl_ssl",
        id="plaintext to a TLS port",
    ),
    pytest.param(
        lambda broker: [*broker.with_certificate("line"), f"kafka.bootstrap={broker.bootstrap}"],
        "this is a plaintext port: set kafka.security.protocol to plaintext or sasl_plaintext",
        id="TLS to a plaintext port",
    ),
    pytest.param(
        lambda broker: [*broker.with_certificate("line"), f"kafka.bootstrap={broker.login}"],
        "it wants a login: set kafka.security.protocol to sasl_...",
        id="no login where one is wanted",
    ),
    pytest.param(
        lambda broker: [f"kafka.bootstrap=broker.invalid:{port_of(broker.tls)}"],
        "the name broker.invalid does not resolve",
        id="a name that does not resolve",
    ),
    pytest.param(
        lambda _: [f"kafka.bootstrap={HOST}:{free_port()}"],
        "connection refused: nothing listens on that port: start the broker, or see kafka.bootstrap",
        id="broker down",
    ),
]


@pytest.mark.parametrize(("overrides", "line"), UNUSABLE)
def test_what_does_not_is_told_apart_in_one_line(
    broker: SecureKafka, overrides: Overrides, line: str, tmp_path: Path
) -> None:
    process = millwatch(tmp_path, "watch", overrides=overrides(broker))
    _, told = process.communicate(timeout=60)
    assert process.returncode == 3, told
    assert told.startswith("millwatch: broker ")
    assert line in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(("text", "problem"), [(None, "cannot read {}: "), ("", "{} is empty"), ("\n", "{} is empty")])
def test_a_token_file_that_cannot_be_used_is_named(
    broker: SecureKafka, text: str | None, problem: str, tmp_path: Path
) -> None:
    file = tmp_path / "gone.token"
    if text is not None:
        file.write_text(text)
    process = millwatch(tmp_path, "watch", overrides=broker.with_token_file(file))
    _, told = process.communicate(timeout=60)
    assert process.returncode == 2, told
    assert f"kafka.security.token_file: {problem.format(file)}" in told
    assert len(told.splitlines()) == 1


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("tiny")
    cascade = write_tiny_cascade(folder / "cascade")
    build_cascade(cascade, directory=folder / "engines", backend="openvino")
    return [f"cascade={cascade}", f"engine.directory={folder / 'engines'}", "http.port=0", "log.format=json"]


@pytest.mark.parametrize("bootstrap", ["broker.invalid:9092", f"{HOST}:1"])
def test_the_service_waits_for_a_broker_that_cannot_be_reached(
    built: list[str], bootstrap: str, tmp_path: Path
) -> None:
    process = millwatch(tmp_path, "run", overrides=[*built, f"kafka.bootstrap={bootstrap}"])
    assert process.stderr is not None
    waiting = next(line for line in process.stderr if "waiting for the broker" in line)
    assert f"broker {bootstrap}: " in waiting
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 0, rest


def test_the_service_does_not_wait_for_a_password_to_become_right(
    broker: SecureKafka, built: list[str], tmp_path: Path
) -> None:
    process = millwatch(tmp_path, "run", overrides=[*built, *broker.with_password("alice", "wrong")])
    _, told = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "the login of alice" in told.splitlines()[-1]


def test_no_secret_is_told(broker: SecureKafka, tmp_path: Path) -> None:
    process = millwatch(tmp_path, "watch", "--debug", overrides=broker.with_password("alice", "wrong-and-secret"))
    out, told = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "wrong-and-secret" not in out + told
