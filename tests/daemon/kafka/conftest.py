"""The broker with every lock on, shared by the tests of security and of rights."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.secure_kafka import SecureKafka, unavailable


@pytest.fixture(scope="session")
def secure_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    why_not = unavailable()
    if why_not is not None:
        pytest.skip(why_not)
    with SecureKafka(tmp_path_factory.mktemp("secure-kafka")) as broker:
        yield broker
