"""Brokers that tests share: the embedded one, and Apache Kafka where the environment names a home."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from daemon.apache_kafka import HOME_VARIABLE, ApacheKafka, home
from tests.faults.brokers import FaultyKafka
from tests.support.topics import Lane, new_lane

NO_KAFKA = f"no Apache Kafka: {HOME_VARIABLE} names no home, or there is no Java"

# A busy machine is no defect: examples have no deadline, the whole test has pytest's.
settings.register_profile("millwatch", deadline=None)
settings.load_profile("millwatch")


@pytest.fixture(scope="session", autouse=True)
def _on_the_processor() -> Iterator[None]:
    """Tests that name no backend are of the processor's, also on a machine with a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engines.tensorrt.device.driver_present", lambda: False)
        patch.setenv("MILLWATCH_ENGINE__BACKEND", "openvino")
        yield


@pytest.fixture(scope="session")
def embedded_broker() -> Iterator[str]:
    from daemon.embedded_broker import EmbeddedBroker

    with EmbeddedBroker() as broker:
        yield broker.bootstrap


@pytest.fixture(scope="session")
def apache_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    if home() is None:
        pytest.skip(NO_KAFKA)
    with ApacheKafka(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture(scope="session")
def hurt_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyKafka]:
    """The one for tests that stop it, kill it or change how it is set: it recovers, as the service does."""
    if home() is None:
        pytest.skip(NO_KAFKA)
    with FaultyKafka(tmp_path_factory.mktemp("hurt-kafka")) as broker:
        yield broker


@pytest.fixture(scope="session", params=["embedded", "apache"])
def broker(request: pytest.FixtureRequest) -> str:
    """``host:port`` of each kind of broker that is here."""
    if request.param == "embedded":
        return str(request.getfixturevalue("embedded_broker"))
    return str(request.getfixturevalue("apache_kafka").bootstrap)


@pytest.fixture
def lane(broker: str) -> Lane:
    """Topics and a group of the test's own."""
    return new_lane(broker)


def pytest_report_header() -> str:
    return f"brokers: embedded{', Apache Kafka' if home() else f' only ({HOME_VARIABLE} names no Kafka home)'}"
