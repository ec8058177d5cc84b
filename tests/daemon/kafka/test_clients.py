from __future__ import annotations

import importlib.util
import ssl
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import KafkaTimeoutError
from structlog.testing import capture_logs

from daemon.kafka import clients
from daemon.settings import Settings, load_settings
from engines.errors import UsageError
from tests.daemon.kafka.fake_broker import CERTIFICATES
from tests.support.topics import Lane

LOGIN = ["kafka.security.protocol=sasl_ssl", "kafka.security.username=line", "kafka.security.password=hunter2"]


class Made:
    """Stands for a client of the library and keeps what it was made from."""

    def __init__(self, **values: Any) -> None:
        self.values = values
        self._fetcher = SimpleNamespace()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GroupMember", "KafkaConsumer", "KafkaProducer", "KafkaAdminClient"):
        monkeypatch.setattr(clients, name, Made)


def settings(*overrides: str) -> Settings:
    return load_settings(Path("/dev/null"), ["kafka.instance=line-3", *overrides])


@pytest.mark.usefixtures("made")
def test_the_groups_consumer_is_what_exactly_once_needs() -> None:
    values = clients.consumer(settings("kafka.start=latest", "kafka.bootstrap=a:1,b:2")).values
    assert values["bootstrap_servers"] == ["a:1", "b:2"]
    assert values["isolation_level"] == "read_committed"
    assert values["enable_auto_commit"] is False
    assert values["group_instance_id"] == "line-3"
    assert values["auto_offset_reset"] == "none"
    assert values["allow_auto_create_topics"] is False


@pytest.mark.usefixtures("made")
def test_the_transactional_id_is_the_instances_own_and_stable() -> None:
    first = clients.producer(settings(), transactional=True).values
    again = clients.producer(settings(), transactional=True).values
    assert first["transactional_id"] == again["transactional_id"] == "millwatch-line-3"
    assert first["retry_backoff_ms"] < 100
    assert "transactional_id" not in clients.producer(settings(), transactional=False).values


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize("overrides", [[], ["kafka.transaction_timeout_ms=5000", "kafka.commit_interval_ms=100"]])
def test_a_producer_gives_up_before_the_broker_and_the_group_do(overrides: list[str]) -> None:
    chosen = settings(*overrides)
    values = clients.producer(chosen, transactional=True).values
    assert values["request_timeout_ms"] < values["delivery_timeout_ms"] <= chosen.kafka.transaction_timeout_ms
    assert values["max_block_ms"] < chosen.kafka.max_poll_interval_ms


@pytest.mark.usefixtures("made")
def test_a_reader_belongs_to_no_group_and_sees_only_what_is_committed() -> None:
    values = clients.reader(settings(), start="earliest").values
    assert values["group_id"] is None
    assert values["isolation_level"] == "read_committed"


@pytest.mark.parametrize("kind", [KafkaConsumer, KafkaProducer, KafkaAdminClient])
def test_the_library_knows_every_name_of_the_common_values(kind: Any) -> None:
    login = settings(*LOGIN, f"kafka.security.ca_file={CERTIFICATES / 'ca.pem'}")
    assert set(clients._common(login)) <= set(kind.DEFAULT_CONFIG)


def test_a_login_and_its_password_reach_the_client() -> None:
    values = clients._common(settings(*LOGIN))
    assert values["security_protocol"] == "SASL_SSL"
    assert (values["sasl_plain_username"], values["sasl_plain_password"]) == ("line", "hunter2")
    assert isinstance(values["ssl_context"], ssl.SSLContext)
    assert "ssl_context" not in clients._common(settings())


def test_a_token_is_read_again_for_each_login(tmp_path: Path) -> None:
    file = tmp_path / "token"
    token_settings = settings(
        "kafka.security.protocol=sasl_plaintext",
        "kafka.security.sasl_mechanism=OAUTHBEARER",
        f"kafka.security.token_file={file}",
    )
    provider = clients._common(token_settings)["sasl_oauth_token_provider"]
    file.write_text("first\n")
    assert provider.token() == "first"
    file.write_text("second\n")
    assert provider.token() == "second"
    file.unlink()
    with pytest.raises(UsageError, match=r"kafka\.security\.token_file: cannot read"):
        provider.token()


def test_files_of_the_wrong_kind_are_named() -> None:
    with pytest.raises(UsageError, match=r"kafka\.security\.ca_file: cannot use .*README\.md"):
        clients.tls_context(
            settings(
                "kafka.security.protocol=ssl", f"kafka.security.ca_file={CERTIFICATES / 'README.md'}"
            ).kafka.security
        )


def test_missing_checksums_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with capture_logs() as told:
        clients.warn_if_slow()
    assert told == []
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with capture_logs() as told:
        clients.warn_if_slow()
    assert told[0]["log_level"] == "warning"
    assert "crc32c" in told[0]["do"]


@pytest.mark.parametrize("make", [clients.admin, clients.consumer, clients.reader, clients.frame_producer])
def test_a_client_that_finds_no_broker_leaves_nothing_behind(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "CONNECT_TIMEOUT_MS", 100)
    values = {"connect_timeout_ms": 100} if make is clients.admin else {}
    before = set(threading.enumerate())
    with pytest.raises(KafkaTimeoutError):
        make(settings("kafka.bootstrap=127.0.0.1:1"), **values)
    assert set(threading.enumerate()) == before


@pytest.mark.kafka
def test_the_clients_connect(lane: Lane) -> None:
    chosen = lane.settings()
    with clients.admin(chosen) as admin:
        assert clients.cluster_id(admin) != "unknown"
        assert clients.broker_addresses(admin) == [("127.0.0.1", int(lane.bootstrap.rpartition(":")[2]))]
    consumer = clients.consumer(chosen)
    consumer.close(autocommit=False)
    producer = clients.producer(chosen, transactional=True)
    producer.init_transactions()
    producer.close()
    frames = clients.frame_producer(chosen)
    frames.send(lane.frames, b"x").get(30)
    frames.close()
    reader = clients.reader(chosen)
    assert lane.frames in reader.topics()
    reader.close()
