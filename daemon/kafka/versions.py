"""Whether the broker speaks what exactly-once delivery is made of."""

from __future__ import annotations

from typing import Any, Final

from kafka import KafkaAdminClient
from kafka import errors as kafka_errors
from kafka.protocol.consumer import FetchRequest, ListOffsetsRequest, OffsetFetchRequest
from kafka.protocol.metadata import FindCoordinatorRequest
from kafka.protocol.producer import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    InitProducerIdRequest,
    ProduceRequest,
    TxnOffsetCommitRequest,
)

from daemon.errors import BrokerError
from daemon.settings import Settings

NEEDED: Final[tuple[tuple[Any, int, str], ...]] = (
    (ProduceRequest, 3, "records of a transaction"),
    (FetchRequest, 4, "reading only what is committed"),
    (ListOffsetsRequest, 2, "reading only what is committed"),
    (FindCoordinatorRequest, 1, "transactions"),
    (InitProducerIdRequest, 0, "transactions"),
    (AddPartitionsToTxnRequest, 0, "transactions"),
    (AddOffsetsToTxnRequest, 0, "transactions"),
    (EndTxnRequest, 0, "transactions"),
    (TxnOffsetCommitRequest, 3, "refusing the offsets of an instance that has lost its partitions"),
    (OffsetFetchRequest, 7, "waiting for offsets whose transaction is being completed"),
)
"""Requests, the version from which each does what it is needed for, and what that is. Transactions came with Apache
Kafka 0.11 (KIP-98); the last two, without which instances of a group repeat each other's frames, with 2.5 (KIP-447)."""


def check_transactions(client: KafkaAdminClient, settings: Settings) -> None:
    """Raise :class:`BrokerError` where ``kafka.delivery`` is exactly once and the broker is too old for it.

    Looks at what the client has agreed on with the broker that it first reached; the brokers of a cluster may differ
    while it is upgraded.
    """
    if settings.kafka.delivery != "exactly_once":
        return
    agreed = client._manager.broker_version_data
    for request, version, purpose in NEEDED:
        try:
            agreed.api_version(request, min_version=version)
        except kafka_errors.IncompatibleBrokerVersion:
            raise BrokerError(
                f"the broker (like Apache Kafka {agreed.broker_version_str}) has no {request.name} version {version}, "
                f"needed for {purpose}: upgrade it to Apache Kafka 2.5 or later, or set kafka.delivery to at_least_once"
            ) from None
