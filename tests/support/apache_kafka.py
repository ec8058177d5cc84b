"""The Apache Kafka of the tests; the package has it, since ``millwatch bench`` measures on one as well."""

from __future__ import annotations

from daemon.bench.apache_kafka import HOME_VARIABLE, ApacheKafka, home
from daemon.embedded_broker import free_port

__all__ = ["HOME_VARIABLE", "ApacheKafka", "free_port", "home"]
