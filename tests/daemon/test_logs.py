from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from kafka.errors import UnknownTopicOrPartitionError, UnstableOffsetCommitError

from daemon import log_repeats
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


def attempt(number: int, *, error: str = "111 ECONNREFUSED", node: int = 1) -> None:
    """What the client logs of a broker that it does not reach."""
    logging.getLogger("kafka.net").error("<Transport [127.0.0.1:9092<-%d]> node %d: %s", 40_000 + number, node, error)


def test_what_the_client_repeats_is_told_once_a_minute_with_the_number_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(log_repeats.time, "monotonic", lambda: now)
    stream = configured(format="json")
    for number in range(200):
        now = number / 2
        attempt(number)
    assert [entry.get("left_out") for entry in entries(stream)] == [None, 119]
    assert {entry["level"] for entry in entries(stream)} == {"error"}


def test_another_error_or_another_broker_is_no_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = configured(format="json")
    for _ in range(3):
        attempt(1)
        attempt(1, error="104 reset by peer")
        attempt(1, node=2)
        logging.getLogger("kafka.net").warning("<Transport> is back")
    assert len(entries(stream)) == 4


def test_another_error_behind_the_same_words_is_no_repeat() -> None:
    stream = configured(format="json")
    for error in (KeyError("cam-1"), ValueError("12"), KeyError("cam-1")):
        logging.getLogger("kafka.net").error("unhandled exception in a task", exc_info=error)
    assert len(entries(stream)) == 2


def test_what_the_service_repeats_is_told_each_time() -> None:
    stream = configured(format="json")
    for _ in range(3):
        structlog.get_logger("daemon.line").warning("starting over from the committed offsets", reason="the same")
        logging.getLogger("kafkaesque").warning("the same")
    assert len(entries(stream)) == 6


def test_at_debug_level_all_is_told() -> None:
    stream = configured(format="json", level="debug")
    for number in range(5):
        attempt(number)
    assert len(entries(stream)) == 5


def test_messages_that_never_come_again_take_a_bounded_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_repeats, "MOST_KEPT", 3)
    filtering = log_repeats.LeaveOutRepeats()
    monkeypatch.setattr("daemon.logs.LeaveOutRepeats", lambda: filtering)
    stream = configured(format="json")
    for node in [*range(10), 9, 0]:
        attempt(1, node=node)
    assert len(entries(stream)) == 11
    assert len(filtering._told) == 3
