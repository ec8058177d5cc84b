from __future__ import annotations

import logging
import socket
from typing import Any

import pytest
from kafka import errors as kafka_errors

from daemon.errors import BrokerError, BrokerUnreachableError
from daemon.kafka import diagnose
from daemon.kafka.rights import Right, of_service
from daemon.kafka.topics import create_topics, topic_states
from daemon.settings import Settings, load_settings
from tests.daemon.kafka.fake_broker import FakeBroker, kafka, tls_port
from tests.support.topics import Lane

ALLOW = "kafka-acls.sh --add --allow-principal User:..."
REFUSED_CLUSTER = "[Error 31] ClusterAuthorizationFailedError: not idempotent"
TRANSACTIONS = "--operation Write --transactional-id millwatch- --resource-pattern-type prefixed"


def settings(port: int, *overrides: str) -> Settings:
    return load_settings(None, [f"kafka.bootstrap=127.0.0.1:{port}", *overrides])


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def _short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnose, "CONNECT_TIMEOUT_MS", 500)


@pytest.mark.kafka
def test_a_broker_and_its_topics_that_are_right(lane: Lane) -> None:
    assert diagnose.check_broker(lane.settings())
    diagnose.check_service(lane.settings())
    with diagnose.connected(lane.settings()) as client:
        diagnose.check_names(client, lane.settings())


@pytest.mark.kafka
def test_missing_topics_are_named_and_can_be_made(lane: Lane) -> None:
    chosen = lane.settings(f"kafka.topics.frames={lane.name}.new", f"kafka.topics.dead={lane.name}.new.dead")
    with pytest.raises(BrokerError) as caught:
        diagnose.check_service(chosen)
    assert str(caught.value).splitlines() == [
        f"topic {lane.name}.new does not exist: make it, or let millwatch check --create make it",
        f"topic {lane.name}.new.dead does not exist: make it, or let millwatch check --create make it",
    ]
    with diagnose.connected(chosen) as client:
        create_topics(client, chosen, [state for state in topic_states(client, chosen) if state.missing])
        states = topic_states(client, chosen)
        assert [(state.key, state.problem) for state in states] == [("frames", None), ("events", None), ("dead", None)]
        assert states[0].partitions == 4
        # Somebody else made them in the meantime: that is what was wanted.
        create_topics(client, chosen, states)


def test_one_address_that_answers_is_enough(embedded_broker: str) -> None:
    chosen = load_settings(None, [f"kafka.bootstrap=127.0.0.1:{unused_port()},{embedded_broker}"])
    assert diagnose.check_broker(chosen)


@pytest.mark.usefixtures("_short_patience")
def test_a_refusal_says_more_than_an_address_that_is_down() -> None:
    with FakeBroker(tls_port) as broker:
        chosen = load_settings(None, [f"kafka.bootstrap=127.0.0.1:{unused_port()},127.0.0.1:{broker.port}"])
        with pytest.raises(BrokerError, match="this is a TLS port"):
            diagnose.check_broker(chosen)


@pytest.mark.usefixtures("_short_patience")
@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ([], "hung up on the first request: it wants a login"),
        (
            [
                "kafka.security.protocol=sasl_plaintext",
                "kafka.security.username=alice",
                "kafka.security.password=wrong",
            ],
            "hung up on the login of alice: wrong user or password",
        ),
    ],
)
def test_a_connection_that_ends_without_a_word(overrides: list[str], complaint: str) -> None:
    with FakeBroker(kafka()) as broker:
        with pytest.raises(BrokerError, match=complaint) as caught:
            diagnose.check_broker(settings(broker.port, *overrides))
        assert not isinstance(caught.value, BrokerUnreachableError)


@pytest.mark.usefixtures("_short_patience")
def test_the_clients_log_is_quiet_while_it_is_diagnosed(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("kafka")
    before = (logger.level, logger.propagate, logger.handlers[:])
    with FakeBroker(kafka()) as broker, pytest.raises(BrokerError):
        diagnose.check_broker(settings(broker.port))
    assert not [record for record in caplog.records if record.name.startswith("kafka")]
    assert (logger.level, logger.propagate, logger.handlers[:]) == before


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (kafka_errors.KafkaTimeoutError("x"), BrokerUnreachableError, "does not answer"),
        (kafka_errors.NotLeaderForPartitionError("x"), BrokerUnreachableError, "does not answer"),
        (kafka_errors.InvalidTopicError("x"), BrokerError, "the broker refused: InvalidTopicError"),
    ],
)
def test_an_error_of_the_client_in_the_users_words(error: Any, kind: type[BrokerError], words: str) -> None:
    explained = diagnose.explain(error)
    assert type(explained) is kind
    assert words in str(explained)
    assert explained.exit_code == 3


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            kafka_errors.TopicAuthorizationFailedError({"camera.frames"}),
            f"no right READ on topic camera.frames: {ALLOW} --operation Read --topic camera.frames",
        ),
        (
            kafka_errors.TopicAuthorizationFailedError("camera.frames.dead"),
            f"no right WRITE on topic camera.frames.dead: {ALLOW} --operation Write --topic camera.frames.dead",
        ),
        (
            kafka_errors.GroupAuthorizationFailedError("millwatch"),
            f"no right READ on group millwatch: {ALLOW} --operation Read --group millwatch",
        ),
        (
            kafka_errors.TransactionalIdAuthorizationFailedError(),
            f"no right WRITE on transactional-id millwatch-*: {ALLOW} {TRANSACTIONS}",
        ),
        (
            kafka_errors.KafkaError("in an error state", kafka_errors.TopicAuthorizationFailedError({"defect.events"})),
            f"no right WRITE on topic defect.events: {ALLOW} --operation Write --topic defect.events",
        ),
        (
            kafka_errors.ClusterAuthorizationFailedError("not idempotent"),
            f"the broker refused a right: {REFUSED_CLUSTER}: see docs/security.md",
        ),
        (
            kafka_errors.TopicAuthorizationFailedError({"another"}),
            "the broker refused a right: [Error 29] TopicAuthorizationFailedError: {'another'}: see docs/security.md",
        ),
    ],
)
def test_a_refusal_names_the_right_that_is_missing(error: Any, words: str) -> None:
    explained = diagnose.explain(error, of_service(load_settings()))
    assert type(explained) is BrokerError
    assert str(explained) == words


def test_rights_are_named_for_what_failed_further_in() -> None:
    def fail(cause: kafka_errors.KafkaError) -> None:
        with diagnose.naming(of_service(load_settings())):
            raise diagnose.explain(cause) from cause

    with pytest.raises(BrokerError, match="no right READ on group millwatch: kafka-acls"):
        fail(kafka_errors.GroupAuthorizationFailedError("millwatch"))
    with pytest.raises(BrokerUnreachableError, match="does not answer"):
        fail(kafka_errors.KafkaTimeoutError("late"))


class Client:
    """An admin client that finds the same of every topic."""

    def __init__(self, found: dict[str, Any]) -> None:
        self._found = found

    def describe_topics(self, names: list[str]) -> list[dict[str, Any]]:
        return [{**self._found, "name": name} for name in names]


WHOLE = {"partition_index": 0, "replica_nodes": [1, 2], "isr_nodes": [1, 2]}
SHORT = {"partition_index": 3, "replica_nodes": [1, 2], "isr_nodes": [1]}


def test_a_copy_that_is_out_of_sync_is_no_problem_by_itself() -> None:
    state = topic_states(Client({"error_code": 0, "partitions": [WHOLE, SHORT]}), load_settings())[0]
    assert (state.problem, state.copies_missing) == (
        None,
        "topic camera.frames lacks copies in sync of partition 3 (1 of 2)",
    )


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        ({"error_code": 29, "partitions": []}, Right("Read", "topic", "camera.frames").missing),
        (
            {"error_code": 0, "partitions": [WHOLE, WHOLE], "authorized_operations": ["DESCRIBE"]},
            Right("Read", "topic", "camera.frames").missing,
        ),
        ({"error_code": 0, "partitions": [WHOLE, WHOLE], "authorized_operations": ["READ"]}, None),
        ({"error_code": 0, "partitions": [WHOLE, WHOLE], "authorized_operations": None}, None),
    ],
)
def test_rights_on_a_topic(found: dict[str, Any], problem: str | None) -> None:
    assert topic_states(Client(found), load_settings())[0].problem == problem


def test_a_topic_without_a_leader_is_waited_for() -> None:
    with pytest.raises(BrokerUnreachableError, match=r"topic camera\.frames is not served yet \(LeaderNotAvailable"):
        topic_states(Client({"error_code": 5, "partitions": []}), load_settings())
