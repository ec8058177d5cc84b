"""How long a commit may take in all, whatever its steps do."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest
from kafka import OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaTimeoutError

from daemon.delivery import AtLeastOnce, DeliveryAborted

ZERO = TopicPartition("camera.frames", 0)


class Producer:
    """Is acknowledged late."""

    def __init__(self, flush_s: float) -> None:
        self._flush_s = flush_s

    def flush(self, timeout: float) -> None:
        time.sleep(min(timeout, self._flush_s))
        if self._flush_s > timeout:
            raise KafkaTimeoutError


def delivery_of(producer: Producer, left: list[float]) -> AtLeastOnce:
    def commit(offsets: Mapping[TopicPartition, OffsetAndMetadata], within_s: float) -> None:
        left.append(within_s)

    made: Any = producer
    delivery = AtLeastOnce(lambda: made, commit, name="one", timeout_s=0.5)
    delivery.open()
    return delivery


def test_the_offsets_have_what_the_acknowledgements_left_of_the_time() -> None:
    left: list[float] = []
    delivery_of(Producer(0.2), left).commit({ZERO: 1})
    (within_s,) = left
    assert 0 < within_s <= 0.3


def test_a_commit_whose_acknowledgements_took_all_of_the_time_is_given_up() -> None:
    left: list[float] = []
    with pytest.raises(DeliveryAborted):
        delivery_of(Producer(60), left).commit({ZERO: 1})
    assert left == []
