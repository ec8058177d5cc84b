"""The three topics: whether they are there, what may be done with them, and how they are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kafka import KafkaAdminClient
from kafka import errors as kafka_errors

from daemon.errors import BrokerError, BrokerUnreachableError
from daemon.kafka.rights import Right, of_creation
from daemon.settings import Settings

FRAME_PARTITIONS = 4
"""Partitions of a new camera topic: how many instances may share the work, and what a consumer prefetches from."""

DAY_MS = 24 * 3600 * 1000
FRAME_RETENTION_MS = 1 * DAY_MS
FRAME_RETENTION_BYTES = 20 * 1024**3
FRAME_SEGMENT_BYTES = 256 * 1024**2
"""Kept frames, per partition: a day or 20 GiB of them, whichever is less, and freed in steps of 256 MiB."""

RESULT_RETENTION_MS = 30 * DAY_MS
"""How long events and dead letters are kept."""


@dataclass(frozen=True, slots=True)
class TopicState:
    """One of the three topics as the broker shows it; ``problem`` is None where it can be used.

    ``missing`` tells a topic that does not exist from one that may not be used; ``copies_missing`` says which
    partitions have fewer copies than they should, which hinders nobody while ``min.insync.replicas`` are left.
    """

    key: str
    name: str
    partitions: int
    problem: str | None
    missing: bool = False
    copies_missing: str | None = None


def topic_states(client: KafkaAdminClient, settings: Settings) -> list[TopicState]:
    """The state of the three topics, in the order frames, events, dead. Makes nothing.

    Raises :class:`BrokerUnreachableError` for a topic that nobody serves just now, as while brokers start.
    """
    topics = settings.kafka.topics
    wanted = {
        "frames": Right("Read", "topic", topics.frames),
        "events": Right("Write", "topic", topics.events),
        "dead": Right("Write", "topic", topics.dead),
    }
    found = {topic["name"]: topic for topic in client.describe_topics([right.name for right in wanted.values()])}
    return [_state(key, right, found.get(right.name)) for key, right in wanted.items()]


def _state(key: str, right: Right, found: dict[str, Any] | None) -> TopicState:
    name = right.name
    error = kafka_errors.for_code(found["error_code"]) if found else kafka_errors.UnknownTopicOrPartitionError
    if error is kafka_errors.UnknownTopicOrPartitionError:
        hint = "make it, or let millwatch check --create make it"
        return TopicState(key, name, 0, f"topic {name} does not exist: {hint}", missing=True)
    if error is kafka_errors.TopicAuthorizationFailedError:
        # Without DESCRIBE, which comes with the right, the broker does not even say whether the topic exists.
        return TopicState(key, name, 0, right.missing)
    if issubclass(error, kafka_errors.RetriableError):
        raise BrokerUnreachableError(f"topic {name} is not served yet ({error.__name__}): are all brokers up?")
    if error is not kafka_errors.NoError or found is None:
        return TopicState(key, name, 0, f"topic {name}: {error.__name__}")
    partitions = len(found["partitions"])
    allowed = found.get("authorized_operations")
    # Brokers before 2.3, and those that are not Apache Kafka, do not say what is allowed.
    if allowed and right.operation.upper() not in allowed:
        return TopicState(key, name, partitions, right.missing)
    return TopicState(key, name, partitions, None, copies_missing=_copies_missing(name, found))


def _copies_missing(name: str, found: dict[str, Any]) -> str | None:
    short = [
        f"{partition['partition_index']} ({len(partition['isr_nodes'])} of {len(partition['replica_nodes'])})"
        for partition in found["partitions"]
        if len(partition["isr_nodes"]) < len(partition["replica_nodes"])
    ]
    return f"topic {name} lacks copies in sync of partition {', '.join(short)}" if short else None


def create_topics(client: KafkaAdminClient, settings: Settings, missing: list[TopicState]) -> None:
    """Make topics that are missing, with the broker's own replication. Raises :class:`BrokerError` where it refuses."""
    if missing:
        new = {state.name: _new_topic(state.key, settings) for state in missing}
        try:
            # A topic that is made is not seen at once by every broker.
            client.create_topics(new, wait_for_metadata=True)
        except kafka_errors.TopicAlreadyExistsError:
            # Somebody else was faster; what they made is looked at next.
            return
        except kafka_errors.AuthorizationError as error:
            wanted = [right.missing for right in of_creation(settings) if right.name in new]
            raise BrokerError("; ".join(wanted)) from error
        except kafka_errors.BrokerResponseError as error:
            raise BrokerError(f"the broker does not make the topics: {type(error).__name__}: {error}") from None


def _new_topic(key: str, settings: Settings) -> dict[str, Any]:
    if key == "frames":
        # Room for the record around the largest frame that is taken.
        configs = {
            "retention.ms": FRAME_RETENTION_MS,
            "retention.bytes": FRAME_RETENTION_BYTES,
            "segment.bytes": FRAME_SEGMENT_BYTES,
            "max.message.bytes": settings.input.max_bytes + 16_384,
        }
    else:
        configs = {"retention.ms": RESULT_RETENTION_MS, "max.message.bytes": settings.kafka.max_message_bytes}
    return {
        "num_partitions": FRAME_PARTITIONS if key == "frames" else 1,
        "configs": {name: str(value) for name, value in configs.items()},
    }
