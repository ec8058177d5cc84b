"""A Kafka client for the length of a command: looked after from the first connection to the last error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from kafka import KafkaConsumer, TopicPartition
from kafka import errors as kafka_errors

from daemon.errors import BrokerError
from daemon.kafka import diagnose
from daemon.kafka.rights import Right
from daemon.settings import Settings

Client = TypeVar("Client", bound=Any)


@contextmanager
def session(settings: Settings, make: Callable[[Settings], Client], rights: Sequence[Right] = ()) -> Iterator[Client]:
    """The client that ``make`` makes of the settings, closed at the end of the context.

    ``rights`` are those that what is done with it needs, for the message that says which is missing. Raises
    :class:`daemon.errors.BrokerError`, in words for the user, where the broker cannot be used at first or while the
    context lasts.
    """
    diagnose.check_broker(settings)
    try:
        client = make(settings)
        try:
            yield client
        finally:
            client.close()
    except kafka_errors.KafkaError as error:
        raise diagnose.explain(error, rights) from error


def partitions_of(consumer: KafkaConsumer, topic: str) -> list[TopicPartition]:
    """All partitions of a topic. Raises :class:`BrokerError` where it is missing, or this user may not see it: a broker
    does not tell which."""
    numbers = consumer.partitions_for_topic(topic)
    if not numbers:
        raise BrokerError(f"topic {topic} does not exist, or this user has no right on it: see millwatch check")
    return [TopicPartition(topic, number) for number in sorted(numbers)]
