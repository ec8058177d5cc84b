"""Starting and ending Apache Kafka, with scripts in the place of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from daemon.apache_kafka import HOME_VARIABLE, ApacheKafka
from daemon.errors import BrokerUnreachableError
from engines.errors import UsageError

SERVER = 'echo $$ > "$(dirname "$1")/pid"'
"""Writes its process id beside its properties, whose file is its one argument."""


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The ``bin`` of a Kafka home whose storage tool does nothing; the server is the test's to write."""
    folder = tmp_path / "home" / "bin"
    folder.mkdir(parents=True)
    write(folder / "java", "exit 0")
    write(folder / "kafka-storage.sh", "exit 0")
    monkeypatch.setenv(HOME_VARIABLE, str(folder.parent))
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder


def write(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_an_interrupted_start_leaves_no_process(scripts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(scripts / "kafka-server-start.sh", f"{SERVER}; exec sleep 600")
    pid = tmp_path / "pid"

    def interrupted(_: ApacheKafka) -> int:
        if pid.exists() and pid.read_text().strip():
            raise KeyboardInterrupt
        return 0

    monkeypatch.setattr(ApacheKafka, "_times_started", interrupted)
    with pytest.raises(KeyboardInterrupt), ApacheKafka(tmp_path):
        pass
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_a_server_that_ends_at_once_is_told_with_its_log(scripts: Path, tmp_path: Path) -> None:
    write(scripts / "kafka-server-start.sh", "exit 1")
    with (
        pytest.raises(BrokerUnreachableError, match=r"did not start on 127\.0\.0\.1:\d+: see .*broker\.log"),
        ApacheKafka(tmp_path),
    ):
        pass


def test_a_tool_that_fails_is_told_with_its_last_words(scripts: Path, tmp_path: Path) -> None:
    write(scripts / "kafka-storage.sh", "echo no such class >&2; exit 1")
    with pytest.raises(UsageError, match=r"kafka-storage\.sh: no such class"), ApacheKafka(tmp_path):
        pass


def test_without_a_home_it_says_which_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(HOME_VARIABLE, raising=False)
    with pytest.raises(UsageError, match=HOME_VARIABLE):
        ApacheKafka(tmp_path)
