"""Logins that end while the service runs: they are renewed, or it says why it cannot go on."""

from __future__ import annotations

import time

import pytest

from daemon.errors import BrokerError
from daemon.kafka.rights import of_service
from tests.daemon.test_service import built
from tests.support.running_service import running
from tests.support.secure_kafka import SESSION_MS, SecureKafka
from tests.support.topics import Lane, new_lane

__all__ = ["built"]

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_login_that_expires_is_renewed_until_its_password_is_changed(
    secure_kafka: SecureKafka, built: list[str]
) -> None:
    broker, user = secure_kafka, "brief"
    lane = new_lane(broker.bootstrap)
    broker.add_user(user, "first")
    broker.allow(user, of_service(lane.settings()))
    login = [*broker.with_password(user, "first"), f"kafka.bootstrap={broker.brief}"]
    with running(Lane(broker.brief, lane.name), *login, *built) as service:
        service.wait_for_ready(ready=True)
        service.wait_for_partitions()
        # The client logs in again before it is over.
        began = time.monotonic()
        while time.monotonic() - began < 2 * SESSION_MS / 1000:
            assert service.probe("/readyz") == (200, "taking frames")
            time.sleep(0.2)
        lane.send([b"no picture"] * 4)
        service.wait_for_settled(4)
        assert (service.aborts, service.rebalances) == (0, 1)
        broker.add_user(user, "second")
        error = service.wait_for_end()
    assert isinstance(error, BrokerError)
    assert error.exit_code == 3
    assert "login" in str(error)
    assert "\n" not in str(error)
