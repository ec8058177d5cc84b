"""The broker of a measurement."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from daemon.apache_kafka import ApacheKafka, home
from daemon.embedded_broker import EmbeddedBroker

BrokerKind = Literal["auto", "apache", "embedded"]
BROKERS: tuple[BrokerKind, ...] = ("auto", "apache", "embedded")


def broker_here(kind: BrokerKind) -> Literal["apache", "embedded"]:
    """Which broker ``auto`` is: Apache Kafka where the environment names a home, else the embedded one."""
    if kind == "auto":
        return "embedded" if home() is None else "apache"
    return kind


@contextmanager
def open_broker(kind: BrokerKind) -> Iterator[str]:
    """``host:port`` of a broker that ends with the context, and its data with it.

    Raises :class:`engines.errors.UsageError` where it is not installed,
    :class:`daemon.errors.BrokerUnreachableError` where it does not start.
    """
    if broker_here(kind) == "embedded":
        with EmbeddedBroker() as embedded:
            yield embedded.bootstrap
        return
    with TemporaryDirectory(prefix="millwatch-kafka-") as folder, ApacheKafka(Path(folder)) as broker:
        yield broker.bootstrap
