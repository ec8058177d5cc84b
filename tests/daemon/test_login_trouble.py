"""Logins that end while the service runs: they are renewed, or it says why it cannot go on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.errors import BrokerError
from daemon.kafka.rights import of_service
from tests.daemon.test_service import built
from tests.support.running_service import running
from tests.support.secure_kafka import SecureKafka, unavailable
from tests.support.topics import Lane, new_lane

__all__ = ["built"]

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(300)]

SESSION_MS = 3_000
"""How long a login is good for. The client logs in again before."""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[SecureKafka]:
    why_not = unavailable()
    if why_not is not None:
        pytest.skip(why_not)
    broker = SecureKafka(tmp_path)
    with broker._properties.open("a", encoding="utf-8") as properties:
        properties.write(f"\nlistener.name.sasl_ssl.scram-sha-512.connections.max.reauth.ms={SESSION_MS}\n")
    with broker:
        yield broker


def test_a_login_that_expires_is_renewed_until_its_password_is_changed(broker: SecureKafka, built: list[str]) -> None:
    lane = new_lane(broker.bootstrap)
    broker.add_user("mill", "first")
    login = broker.with_password("mill", "first")
    broker.allow("mill", of_service(lane.settings()))
    with running(Lane(broker.login, lane.name), *login, *built) as service:
        service.wait_for_ready(ready=True)
        service.wait_for_partitions()
        began = time.monotonic()
        while time.monotonic() - began < 2 * SESSION_MS / 1000:
            assert service.probe("/readyz") == (200, "taking frames")
            time.sleep(0.2)
        lane.send([b"no picture"] * 4)
        service.wait_for_settled(4)
        assert (service.aborts, service.rebalances) == (0, 1)
        broker.add_user("mill", "second")
        error = service.wait_for_end()
    assert isinstance(error, BrokerError)
    assert error.exit_code == 3
    assert "login" in str(error)
    assert "\n" not in str(error)
