from __future__ import annotations

from types import SimpleNamespace

import pytest
from kafka import errors as kafka_errors
from kafka.producer.transaction_manager import TransactionManager, TransactionState
from kafka.structs import ConsumerGroupMetadata

from daemon.delivery import RecordTooLarge, failure
from daemon.kafka import transactions

MEMBER = ConsumerGroupMetadata("group", 1, "member", None)


def test_offsets_behind_a_record_that_was_refused_fail_with_its_refusal() -> None:
    manager = TransactionManager("line")
    manager._transition_to(TransactionState.INITIALIZING)
    manager._transition_to(TransactionState.READY)
    manager.begin_transaction()
    manager.transition_to_abortable_error(kafka_errors.MessageSizeTooLargeError("larger than the topic takes"))
    with pytest.raises(kafka_errors.MessageSizeTooLargeError) as refused:
        transactions.begin_offsets(SimpleNamespace(_transaction_manager=manager), {}, MEMBER)
    assert isinstance(failure(refused.value, "line"), RecordTooLarge)


def test_offsets_without_a_transaction_fail_with_the_client_s_own_error() -> None:
    with pytest.raises(kafka_errors.KafkaError, match="not in an active transaction"):
        transactions.begin_offsets(SimpleNamespace(_transaction_manager=TransactionManager("line")), {}, MEMBER)
