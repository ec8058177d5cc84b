"""The consumer as a member of its group: what the client lacks for members that keep their names and their partitions.

It reaches beneath the client (kafka-python 3.0), since nothing public tells of a name that was taken, nothing public
reads while a rebalance lasts, and short polls miss a rebalance's end.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from kafka import KafkaConsumer
from kafka.coordinator.base import MemberState
from kafka.errors import FencedInstanceIdError
from kafka.structs import ConsumerGroupMetadata, TopicPartition
from kafka.util import Timer

from daemon.kafka.assignor import Assignor

REBALANCE_LOOK_MS = 10
"""While a rebalance lasts, how often its end is looked for between two looks for frames."""


class _Outcome:
    """Of a request to join: it is done once the client has looked at it, and not before.

    The client joins in the background. What came of it between two polls the next poll would throw away and join once
    more: a member that polls briefly and does other things in between might never come to know what it was given, and
    where it leads the group the others would not either.
    """

    is_done = False

    def __init__(self, task: Any) -> None:
        self._task = task

    def add_callback(self, call: Callable[[Any], None]) -> None:
        """Have the result, now or when it comes."""
        self._task.add_callback(call)

    def add_errback(self, call: Callable[[BaseException], None]) -> None:
        """Have the error, now or when it comes."""
        self._task.add_errback(call)


class GroupMember(KafkaConsumer):  # type: ignore[misc]  # the client publishes no types
    """A static member of its group, rebalanced cooperatively."""

    def __init__(self, **values: Any) -> None:
        assignor = Assignor()
        self._known_as = ""
        super().__init__(partition_assignment_strategy=[assignor], **values)
        assignor.serve(self)
        _want_until_joined(self._coordinator)

    def poll(
        self, timeout_ms: float = 0, max_records: int | None = None, update_offsets: bool = True
    ) -> dict[TopicPartition, list[Any]]:
        """As the client's. Raises ``FencedInstanceIdError`` once another instance has joined under this one's name:
        the client keeps that to itself, and would go on reading for ever without being of the group."""
        coordinator = self._coordinator
        try:
            polled: dict[TopicPartition, list[Any]] = super().poll(timeout_ms, max_records, update_offsets)
        finally:
            # A poll that fails, for a partition that has no offset yet, say, has told of the membership all the same.
            with coordinator._lock:
                stable = coordinator.state is MemberState.STABLE
                if stable:
                    self._known_as = coordinator._generation.member_id
                # Of all that switches its heartbeats off, only this leaves it stable and without a wish to join.
                wanted = coordinator._heartbeat_enabled or coordinator.rejoining or coordinator.rejoin_needed
        if stable and not wanted:
            raise FencedInstanceIdError((coordinator.group_id, coordinator.group_instance_id))
        return polled

    def join_again_unless_leading(self) -> None:
        """Ask the group to be taken in once more, where this member does not know itself to be its leader."""
        if not self._coordinator._is_leader:
            self._coordinator.request_rejoin()

    def membership(self) -> ConsumerGroupMetadata:
        """The membership with which offsets may be committed, without generation and member id where it was lost.

        While the group takes this member in anew, :meth:`group_metadata` has the new membership before any poll told
        that the old one had ended. A commit with it would be taken, for frames that another member has delivered.
        """
        member = self.group_metadata()
        return member if member.member_id == self._known_as else ConsumerGroupMetadata(member.group_id)

    def _poll_once(
        self, timer: Timer, max_records: int, update_offsets: bool = True
    ) -> dict[TopicPartition, list[Any]]:
        """One look for frames; also while the group waits for other members, since what is held stays held.

        The client's own looks for none until the rebalance is over, and that may last for as long as the session of a
        member that is dead.
        """
        joining = self._coordinator._join_task
        if joining is not None and not isinstance(joining, _Outcome):
            self._coordinator._join_task = _Outcome(joining)
        waits = self.assignment() and self._coordinator.need_rejoin() and not self._coordinator.poll(timeout_ms=0)
        if not waits:
            return super()._poll_once(timer, max_records, update_offsets)  # type: ignore[no-any-return]
        look_ms = min(REBALANCE_LOOK_MS, timer.timeout_ms)
        records, idle = self._fetcher.fetch_records(max_records, update_offsets=update_offsets, timeout_ms=look_ms)
        if not records and idle:
            time.sleep(look_ms / 1000)
        return records  # type: ignore[no-any-return]


def _want_until_joined(coordinator: Any) -> None:
    """Let a wish to join the group hold until it has come true.

    Whoever leads the group wants to join when the partitions of the topic are others than before, and forgets that as
    soon as it has worked out what is whose, with its own part still to come. Where that takes longer than a poll, or
    the connection breaks meanwhile, it would read nothing any more and say nothing.
    """
    need_rejoin = coordinator.need_rejoin

    def need_rejoin_until_joined() -> bool:
        needed: bool = need_rejoin()
        if needed:
            coordinator.request_rejoin()
        return needed

    coordinator.need_rejoin = need_rejoin_until_joined
