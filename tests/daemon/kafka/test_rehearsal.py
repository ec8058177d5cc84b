from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from kafka import KafkaAdminClient, TopicPartition
from kafka.errors import CommitFailedError, ProducerFencedError

from daemon.apache_kafka import ApacheKafka
from daemon.checks import run_checks
from daemon.errors import BrokerError
from daemon.kafka import clients, rehearsal, transactions
from tests.support.topics import Lane, new_lane

pytestmark = pytest.mark.kafka

NAMES = ["commit", "abort", "offsets", "membership", "fencing"]


def outcomes(lane: Lane, *names: str) -> dict[str, str | BrokerError]:
    """What the checks say, all of them or the named ones."""
    found: dict[str, str | BrokerError] = {}
    with rehearsal.rehearsal(lane.settings()) as checks:
        for name, check in checks:
            if not names or name in names:
                try:
                    found[name] = check()
                except BrokerError as error:
                    found[name] = error
    return found


def left_behind(lane: Lane) -> list[str]:
    admin = KafkaAdminClient(bootstrap_servers=lane.bootstrap)
    try:
        groups = [group["group_id"] for group in admin.list_groups()]
        return [name for name in [*groups, *admin.list_topics()] if name.startswith(lane.name) and ".check-" in name]
    finally:
        admin.close()


def broken(found: dict[str, str | BrokerError]) -> dict[str, str]:
    return {name: str(told) for name, told in found.items() if isinstance(told, BrokerError)}


def test_apache_kafka_keeps_its_promises_and_nothing_is_left_behind(apache_kafka: ApacheKafka) -> None:
    lane = new_lane(apache_kafka.bootstrap)
    found = outcomes(lane)
    assert list(found) == NAMES
    assert broken(found) == {}
    assert left_behind(lane) == []


def test_the_embedded_broker_does_not_look_at_memberships(embedded_broker: str) -> None:
    # That is why it is for development only; where a new version of it does, this test is for removal.
    lane = new_lane(embedded_broker)
    assert broken(outcomes(lane)) == {"membership": "the broker takes offsets of an instance that is not of the group"}
    assert left_behind(lane) == []


def test_a_check_that_fails_hides_no_other(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    # As if the broker took an abort for a commit.
    monkeypatch.setattr(transactions, "abort", transactions.commit)
    found = outcomes(lane, "commit", "abort", "offsets", "fencing")
    assert broken(found) == {
        "abort": "a read_committed reader sees a record whose transaction was aborted",
        "offsets": "offset 2 was aborted with its transaction, and the group is at 2 instead of 1",
    }
    assert left_behind(lane) == []


def commits_early(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that sees open transactions."""
    reader = clients.reader

    def hasty(*values: Any, **named: Any) -> Any:
        consumer = reader(*values, **named)
        consumer._fetcher._isolation_level = 0
        return consumer

    monkeypatch.setattr(clients, "reader", hasty)


def loses_commits(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that takes a commit for an abort."""
    monkeypatch.setattr(rehearsal, "STEP_S", 2.0)
    monkeypatch.setattr(transactions, "commit", transactions.abort)


def takes_anybody(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that does not look at memberships."""
    add = transactions.add_offsets

    def careless(producer: Any, offsets: Any, member: Any, timeout_s: float) -> None:
        try:
            add(producer, offsets, member, timeout_s)
        except CommitFailedError:
            return

    monkeypatch.setattr(transactions, "add_offsets", careless)


def fences_nobody(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that takes the commit of a producer whose name was taken."""
    commit = transactions.commit

    def lenient(producer: Any, timeout_s: float) -> None:
        try:
            commit(producer, timeout_s)
        except ProducerFencedError:
            return

    monkeypatch.setattr(transactions, "commit", lenient)


@pytest.mark.parametrize(
    ("breaks", "name", "told"),
    [
        (commits_early, "commit", "a read_committed reader sees a record whose transaction is still open"),
        (loses_commits, "commit", "a committed record is not seen by a read_committed reader within 2 s"),
        (takes_anybody, "membership", "the broker takes offsets of an instance that is not of the group"),
        (fences_nobody, "fencing", "a producer commits although a second one has taken its transactional id"),
    ],
)
def test_a_promise_that_is_not_kept_is_told(
    lane: Lane,
    monkeypatch: pytest.MonkeyPatch,
    breaks: Callable[[Lane, pytest.MonkeyPatch], None],
    name: str,
    told: str,
) -> None:
    breaks(lane, monkeypatch)
    assert str(outcomes(lane, name)[name]) == told


def test_an_offset_that_is_late_condemns_no_broker(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    offset, answers = rehearsal._Stage.offset, iter([None, None])
    monkeypatch.setattr(rehearsal._Stage, "offset", lambda stage: next(answers, offset(stage)))
    assert broken(outcomes(lane, "offsets")) == {}
    assert list(answers) == []


def test_an_offset_that_never_comes_is_told(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "SETTLE_S", 1.0)
    monkeypatch.setattr(rehearsal._Stage, "offset", lambda _: None)
    assert broken(outcomes(lane, "offsets")) == {
        "offsets": "offset 1 was committed in a transaction, and the group is at None after 1 s"
    }


def test_check_shows_one_line_each_and_ends_with_3_where_one_fails(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transactions, "abort", transactions.commit)
    lines = {each.item: each for each in run_checks(lane.settings(), offline=False, create=False, transactions=True)}
    assert list(lines)[-5:] == NAMES
    codes = {name: lines[name].exit_code for name in NAMES if name != "membership"}
    assert codes == {"commit": 0, "abort": 3, "offsets": 3, "fencing": 0}


def test_nothing_of_the_service_is_touched(lane: Lane) -> None:
    settings = lane.settings()
    producer = clients.producer(settings, transactional=True)
    try:
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(lane.events, b"of the running instance").get(20)
        outcomes(lane)
        producer.commit_transaction()
    finally:
        producer.close()
    assert [record.value for record in lane.committed(lane.events, bool)] == [b"of the running instance"]
    reader = clients.reader(settings, group=settings.kafka.group)
    try:
        assert reader.committed(TopicPartition(lane.frames, 0)) is None
    finally:
        reader.close(autocommit=False)
