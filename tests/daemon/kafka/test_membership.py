"""When a member knows its membership, with polls that are made up."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.coordinator.base import MemberState
from kafka.errors import FencedInstanceIdError, NoOffsetForPartitionError
from kafka.structs import ConsumerGroupMetadata

from daemon.kafka.member import GroupMember


@pytest.fixture
def member() -> Any:
    """A member that the group has just taken in, and has not polled since."""
    member: Any = object.__new__(GroupMember)
    member._known_as = ""
    member._closed = True
    member.config = {"group_id": "g"}
    member._coordinator = SimpleNamespace(
        _lock=threading.RLock(),
        state=MemberState.STABLE,
        _generation=SimpleNamespace(member_id="a"),
        _heartbeat_enabled=True,
        rejoining=False,
        rejoin_needed=False,
        group_id="g",
        group_instance_id="line",
        group_metadata=lambda: ConsumerGroupMetadata("g", 3, "a", "line", MemberState.STABLE),
    )
    return member


def test_a_poll_that_fails_for_a_partition_without_offset_tells_of_the_membership(
    member: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poll(*_: Any) -> None:
        raise NoOffsetForPartitionError({TopicPartition("camera.frames", 0)})

    monkeypatch.setattr(KafkaConsumer, "poll", poll)
    assert member.membership().generation_id == -1
    with pytest.raises(NoOffsetForPartitionError):
        member.poll()
    # The offset at which reading begins is committed before the next poll.
    assert member.membership().generation_id == 3


@pytest.mark.parametrize("wish", ["_heartbeat_enabled", "rejoining", "rejoin_needed", None])
def test_a_member_without_heartbeats_and_without_a_wish_to_join_has_lost_its_name(
    member: Any, wish: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KafkaConsumer, "poll", lambda *_: {})
    member._coordinator._heartbeat_enabled = False
    if wish is not None:
        setattr(member._coordinator, wish, True)
        assert member.poll() == {}
        return
    with pytest.raises(FencedInstanceIdError, match="line"):
        member.poll()
