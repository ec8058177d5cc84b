from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from kafka import KafkaProducer

from tests.hostile.messages import Message, good_frames
from tests.hostile.mutations import KINDS, mutated
from tests.hostile.run import outcome
from tests.support.running_service import run
from tests.support.tiny_cascade import write_tiny_cascade
from tests.support.topics import Lane

BROKER_LIMIT = 900_000
"""Bytes of a frame that fit into a message of the 1 MiB that brokers allow, with its headers."""

pytestmark = pytest.mark.kafka


def sendable(message: Message) -> Message:
    """The same without null headers, which other clients can send and this one cannot."""
    return replace(message, headers=tuple((name, text or b"") for name, text in message.headers))


def test_between_good_frames_every_hostile_one_is_inspected_or_dead_with_its_reason(lane: Lane, tmp_path: Path) -> None:
    cascade = write_tiny_cascade(tmp_path / "cascade")
    hostile = [sendable(mutated(kind, number)) for number in range(12) for kind in KINDS]
    hostile = [message for message in hostile if message.size <= BROKER_LIMIT]
    good = list(good_frames().values())
    messages = [message for number, bad in enumerate(hostile) for message in (bad, good[number % len(good)])]
    expected = [outcome("any", message)[0] for message in messages]
    producer = KafkaProducer(bootstrap_servers=lane.bootstrap)
    for message in messages:
        producer.send(lane.frames, message.value, key=b"cam-1", partition=0, headers=list(message.headers))
    producer.flush()
    producer.close()

    account = run(lane, len(messages), f"cascade={cascade}", f"engine.directory={tmp_path / 'engines'}")

    reasons = Counter(expected)
    assert account.clean + account.defective == reasons.pop("decoded")
    assert account.dead == reasons
    assert account.taken == lane.offsets() == len(messages)
    assert account.balances(0)
    letters = lane.committed(lane.dead, lambda seen: len(seen) >= account.dead.total())
    assert len(letters) == account.dead.total()
    for letter in letters:
        headers = dict(letter.headers)
        source, _, offset = headers["millwatch-source"].decode().rpartition("-")
        assert source == f"{lane.frames}-0"
        assert headers["millwatch-reason"].decode() == expected[int(offset)]
        assert headers["millwatch-detail"]
        assert letter.value == messages[int(offset)].value
    assert len({dict(letter.headers)["millwatch-source"] for letter in letters}) == len(letters)
