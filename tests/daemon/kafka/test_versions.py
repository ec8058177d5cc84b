from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from kafka.protocol.broker_version_data import BrokerVersionData

from daemon.errors import BrokerError
from daemon.kafka import clients, diagnose
from daemon.kafka.versions import check_transactions
from daemon.settings import load_settings
from tests.support.topics import Lane


def connected_to(version: tuple[int, ...]) -> Any:
    """Stands for an admin client of a broker of this version."""
    return SimpleNamespace(_manager=SimpleNamespace(broker_version_data=BrokerVersionData(version)))


@pytest.mark.parametrize(
    ("version", "lacks"),
    [((0, 10, 2), "ProduceRequest version 3"), ((0, 11), "TxnOffsetCommitRequest version 3"), ((2, 4), "version 3")],
)
def test_a_broker_too_old_for_transactions_in_groups_is_told_in_one_line(version: tuple[int, ...], lacks: str) -> None:
    with pytest.raises(BrokerError) as caught:
        check_transactions(connected_to(version), load_settings())
    assert type(caught.value) is BrokerError
    told = str(caught.value)
    assert f"like Apache Kafka {'.'.join(map(str, version))}) has no " in told
    assert lacks in told
    assert told.endswith("or set kafka.delivery to at_least_once")
    assert "\n" not in told


def test_at_least_once_takes_what_it_gets() -> None:
    check_transactions(connected_to((0, 11)), load_settings(None, ["kafka.delivery=at_least_once"]))


@pytest.mark.parametrize("version", [(2, 5), (3, 9), (4, 3)])
def test_newer_brokers_are_right(version: tuple[int, ...]) -> None:
    check_transactions(connected_to(version), load_settings())


@pytest.mark.kafka
def test_the_start_of_the_service_looks_at_them(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    diagnose.check_service(lane.settings())
    connect = clients.admin

    def old_broker(*values: Any, **named: Any) -> Any:
        client = connect(*values, **named)
        client._manager.broker_version_data = BrokerVersionData((2, 4))
        return client

    monkeypatch.setattr(clients, "admin", old_broker)
    with pytest.raises(BrokerError, match="needed for refusing the offsets of an instance"):
        diagnose.check_service(lane.settings())
    diagnose.check_service(lane.settings("kafka.delivery=at_least_once"))
