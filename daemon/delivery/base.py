"""The port through which results leave: what a delivery promises, whatever its guarantee."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import ClassVar

import structlog
from kafka import KafkaProducer, TopicPartition
from kafka import errors as kafka_errors

from daemon.errors import FencedError
from daemon.kafka import diagnose
from daemon.kafka.rights import refused_resource

log = structlog.get_logger(__name__)

Offsets = Mapping[TopicPartition, int]
"""Per input partition, the offset of the next frame to read: one past the last whose result is being delivered."""


REFUSALS = (
    kafka_errors.AuthorizationError,
    kafka_errors.GroupMaxSizeReachedError,
    kafka_errors.IncompatibleBrokerVersion,
    kafka_errors.InconsistentGroupProtocolError,
    kafka_errors.InvalidSessionTimeoutError,
    kafka_errors.InvalidTransactionTimeoutError,
    kafka_errors.SaslAuthenticationFailedError,
    kafka_errors.UnsupportedVersionError,
)
"""What the broker goes on refusing until somebody changes a right or a setting."""

TOO_LARGE = (kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError)
"""What the broker answers to a record that is larger than its topic takes."""

DISPOSE_S = 5.0
"""Longest wait for a producer's thread to end."""


def dispose(producer: KafkaProducer) -> None:
    """Release a producer: what it still holds is not sent any more, and its thread has ended."""
    # Its own close flushes first, whatever its timeout. With a broker that is away that fails and leaves behind a
    # thread that goes on sending: one more for every time the line starts over.
    producer._sender.force_close()
    try:
        producer.close(timeout=DISPOSE_S)
    except kafka_errors.KafkaTimeoutError:
        log.warning("a producer did not end in time")


def countdown(seconds: float) -> Callable[[], float]:
    """A function that tells how many of these seconds are left, never below 0: several waits share them."""
    deadline = time.monotonic() + seconds
    return lambda: max(0.0, deadline - time.monotonic())


def failure(error: kafka_errors.KafkaError, name: str) -> Exception:
    """What an error of the client means for the instance ``name``: fenced, refused for good, or worth starting over."""
    if is_fenced(error):
        return FencedError(
            f"another instance has taken the name {name!r}, or this one stood still for longer than "
            "kafka.transaction_timeout_ms: give each instance its own kafka.instance"
        )
    if isinstance(error, REFUSALS) or refused_resource(error) is not None:
        return diagnose.explain(error)
    # What fails after the refused record only quotes the refusal.
    if any(isinstance(each, TOO_LARGE) for each in (error, *error.args)):
        return RecordTooLarge(f"{type(error).__name__}: {error}")
    return DeliveryAborted(f"{type(error).__name__}: {error}")


def is_fenced(error: BaseException) -> bool:
    """Whether the broker knows a younger instance of this name: nothing that this one sends will ever count again."""
    if isinstance(error, kafka_errors.ProducerFencedError | kafka_errors.FencedInstanceIdError):
        return True
    # Once its sender thread has been fenced, the client answers each call with a plain KafkaError that only quotes it.
    return isinstance(error, kafka_errors.KafkaError) and "ProducerFencedError" in str(error)


class DeliveryAborted(Exception):  # noqa: N818 - control flow, not an error for the user
    """Nothing of what was sent since the last commit counts; the caller reads again from the committed offsets."""


class RecordTooLarge(DeliveryAborted):
    """The broker takes no record of the size of one that was sent; smaller ones may be tried."""


class CommitPostponed(Exception):  # noqa: N818 - control flow, not an error for the user
    """The group is about to rebalance: what was sent still counts, and the same commit may be tried after a poll."""


class Delivery(ABC):
    """Sends records and commits input offsets; a context manager.

    Owned by the line thread. The order of use: :meth:`open` before the first offset is read, then any number of
    :meth:`send` and one :meth:`commit`, over and over. After :class:`DeliveryAborted` come :meth:`abort` and
    :meth:`open`; then it is ready for use again, with nothing pending.
    """

    commits_while_moving: ClassVar[bool]
    """Whether :meth:`commit` may be called inside a rebalance callback, where the consumer itself cannot be asked."""

    @abstractmethod
    def open(self) -> None:
        """Get ready; fences a predecessor of the same name and ends what it left open, where the guarantee needs it."""

    @abstractmethod
    def send(self, topic: str, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]) -> None:
        """Hand over a record that counts with the next commit. Raises DeliveryAborted."""

    @abstractmethod
    def commit(self, offsets: Offsets, mark: str = "") -> None:
        """Commit all that was sent, then or with it the input offsets, with ``mark`` as their metadata.

        Raises DeliveryAborted where the broker refused and reading again mends it, or its answer was lost: then the
        committed offsets tell by their mark whether the commit counts. Raises CommitPostponed where polling mends it,
        FencedError where another instance has taken this one's name.
        """

    @abstractmethod
    def abort(self) -> None:
        """Give up all that was sent since the last commit, as far as the guarantee allows."""

    @abstractmethod
    def close(self) -> None:
        """Release the clients. What was not committed is given up."""

    def __enter__(self) -> Delivery:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
