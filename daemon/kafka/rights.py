"""The rights that this program needs on a broker with access rules, and which of them a refusal is about."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from kafka.errors import KafkaError

from daemon.settings import Settings

Resource = Literal["topic", "group", "transactional-id", "cluster"]
"""What a right is about, by the name of its option of ``kafka-acls.sh``."""

SCRATCH: Final = ".check-"
"""What ``check --transactions`` puts, with a number, behind the names of what it makes for itself."""

_REFUSALS: Final[dict[str, Resource]] = {
    "TopicAuthorizationFailedError": "topic",
    "GroupAuthorizationFailedError": "group",
    "TransactionalIdAuthorizationFailedError": "transactional-id",
    "ClusterAuthorizationFailedError": "cluster",
}


@dataclass(frozen=True, slots=True)
class Right:
    """One access rule. ``operation`` is spelled as ``kafka-acls.sh`` takes it; ``prefixed`` rules hold for every
    resource whose name begins with ``name``."""

    operation: str
    resource: Resource
    name: str
    prefixed: bool = False

    def __str__(self) -> str:
        return f"{self.operation.upper()} on {self.resource} {self.name}{'*' if self.prefixed else ''}"

    @property
    def arguments(self) -> str:
        """What ``kafka-acls.sh`` takes to add this right, beside the user."""
        pattern = " --resource-pattern-type prefixed" if self.prefixed else ""
        return f"--operation {self.operation} --{self.resource} {self.name}{pattern}"

    @property
    def missing(self) -> str:
        """What the user reads where this right is missing."""
        return f"no right {self}: kafka-acls.sh --add --allow-principal User:... {self.arguments}"


def of_service(settings: Settings) -> list[Right]:
    """The least rights of ``millwatch run``, for every instance of the group.

    READ and WRITE bring DESCRIBE with them. A producer that may write a topic needs no IDEMPOTENT_WRITE since Apache
    Kafka 3.0 (KIP-679).
    """
    kafka = settings.kafka
    rights = [
        Right("Read", "topic", kafka.topics.frames),
        Right("Write", "topic", kafka.topics.events),
        Right("Write", "topic", kafka.topics.dead),
        Right("Read", "group", kafka.group),
    ]
    if kafka.delivery == "exactly_once":
        rights.append(Right("Write", "transactional-id", f"{kafka.group}-", prefixed=True))
    return rights


def of_creation(settings: Settings) -> list[Right]:
    """What ``check --create`` needs beside the rights of the service."""
    topics = settings.kafka.topics
    return [Right("Create", "topic", name) for name in (topics.frames, topics.events, topics.dead)]


def of_rehearsal(settings: Settings) -> list[Right]:
    """What ``check --transactions`` needs beside the rights of the service."""
    topic, group = f"{settings.kafka.topics.events}{SCRATCH}", f"{settings.kafka.group}{SCRATCH}"
    rights = [Right(operation, "topic", topic, prefixed=True) for operation in ("Create", "Write", "Read", "Delete")]
    return rights + [Right(operation, "group", group, prefixed=True) for operation in ("Read", "Delete")]


def refused_resource(error: KafkaError) -> Resource | None:
    """What a refusal for want of a right is about; None where the error is another one.

    Once a transaction has failed, the client answers each call with a plain ``KafkaError`` that only quotes the cause.
    """
    return next((resource for name, resource in _REFUSALS.items() if name in repr(error) + str(error)), None)


def missing_rights(error: KafkaError, rights: Sequence[Right]) -> list[Right]:
    """Those of ``rights`` that a refusal is about: by the names that it tells, or by the kind of resource where it
    tells none and there are not several topics. Empty where the error is no such refusal or is about none of them."""
    resource = refused_resource(error)
    candidates = [right for right in rights if right.resource == resource]
    told = [right for right in candidates if _tells(str(error), right)]
    return told or ([] if resource == "topic" and len(candidates) > 1 else candidates)


def _tells(text: str, right: Right) -> bool:
    end = "" if right.prefixed else r"(?![\w.-])"
    return re.search(rf"(?<![\w.-]){re.escape(right.name)}{end}", text) is not None
