from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from kafka.errors import UnknownTopicOrPartitionError, UnstableOffsetCommitError

from daemon.logs import configure_logs
from daemon.settings import LogSettings


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root, client = logging.getLogger(), logging.getLogger("kafka")
    handlers, level, client_level = root.handlers[:], root.level, client.level
    yield
    root.handlers[:], root.level, client.level = handlers, level, client_level
    logging.getLogger("kafka.coordinator.consumer").filters.clear()
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def configured(**values: str) -> io.StringIO:
    stream = io.StringIO()
    configure_logs(LogSettings.model_validate(values), stream)
    return stream


def entries(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_both_kinds_of_loggers_write_json_lines() -> None:
    stream = configured(format="json")
    structlog.get_logger("daemon.line").info("partitions assigned", partitions=[0, 1])
    logging.getLogger("kafka.net").warning("node %s not ready", 3)
    own, foreign = entries(stream)
    assert own["event"] == "partitions assigned"
    assert own["partitions"] == [0, 1]
    assert own["logger"] == "daemon.line"
    assert str(own["timestamp"]).endswith("Z")
    assert foreign["event"] == "node 3 not ready"
    assert foreign["level"] == "warning"


def test_off_a_terminal_auto_is_json() -> None:
    stream = configured(format="auto")
    structlog.get_logger("daemon").info("started")
    assert entries(stream)[0]["event"] == "started"


def test_the_console_format_is_for_people() -> None:
    stream = configured(format="console")
    structlog.get_logger("daemon").info("started", instance="line-1")
    assert "started" in stream.getvalue()
    assert "instance=line-1" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_the_level_holds() -> None:
    stream = configured(format="json", level="warning")
    structlog.get_logger("daemon").info("no")
    structlog.get_logger("daemon").warning("yes")
    assert [entry["event"] for entry in entries(stream)] == ["yes"]


def test_the_client_never_logs_its_requests() -> None:
    stream = configured(format="json", level="debug")
    logging.getLogger("kafka.net.connection").debug("Request 1: SaslAuthenticateRequest(auth_bytes=...)")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_shows_no_local_variables(form: str) -> None:
    stream = configured(format=form)
    password = "hunter" + str(1 + 1)
    try:
        int(f"length {len(password)}")
    except ValueError:
        structlog.get_logger("daemon").exception("failed")
        logging.getLogger("kafka.net").exception("failed as well")
    assert stream.getvalue().count("ValueError: invalid literal") == 2
    assert "hunter2" not in stream.getvalue()


def test_the_last_configuration_holds() -> None:
    first, second = configured(format="json"), configured(format="json")
    structlog.get_logger("daemon").info("once")
    assert first.getvalue() == ""
    assert len(entries(second)) == 1


def test_an_offset_that_waits_for_a_transaction_is_not_told_of_as_an_error() -> None:
    stream = configured(format="json")
    client = logging.getLogger("kafka.coordinator.consumer")
    client.error("Unknown error fetching offsets for %s: %s", "frames-1", UnstableOffsetCommitError())
    client.error("Unknown error fetching offsets for %s: %s", "frames-2", UnknownTopicOrPartitionError())
    (told,) = entries(stream)
    assert "frames-2" in str(told["event"])
