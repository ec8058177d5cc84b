"""The broker of a benchmark: the embedded one, or Apache Kafka from the home that the environment names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from daemon.embedded_broker import EmbeddedBroker
from engines.errors import UsageError
from tests.support.apache_kafka import HOME_VARIABLE, ApacheKafka, home

BrokerKind = Literal["embedded", "apache"]


@contextmanager
def open_broker(kind: BrokerKind) -> Iterator[str]:
    """``host:port`` of a broker that ends with the context. Raises :class:`UsageError` where there is none."""
    if kind == "embedded":
        with EmbeddedBroker() as embedded:
            yield embedded.bootstrap
        return
    if home() is None:
        raise UsageError(f"{HOME_VARIABLE} names no Kafka home, or there is no Java to run it")
    with TemporaryDirectory(prefix="millwatch-kafka-") as folder, ApacheKafka(Path(folder)) as broker:
        yield broker.bootstrap
