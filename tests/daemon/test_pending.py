"""What waits for a commit, and when it is due."""

from __future__ import annotations

from kafka import TopicPartition

from daemon.pending import Pending

ZERO = TopicPartition("camera.frames", 0)


def test_a_record_without_a_time_has_no_latency() -> None:
    pending = Pending()
    for offset, appended_ms in enumerate((-1, 0, 1_700_000_000_000)):
        pending.finish(ZERO, offset, appended_ms)
    assert pending.appended_ms == [1_700_000_000_000]
    assert pending.offsets == {ZERO: 3}


def test_where_reading_begins_is_committed_at_once() -> None:
    pending = Pending()
    assert pending.due_at(interval_s=1.0, publish_delay_s=1.0, max_frames=10) == float("inf")
    pending.begin(ZERO, 7)
    assert pending.due_at(interval_s=1.0, publish_delay_s=1.0, max_frames=10) == 0.0
    assert pending.offsets == {ZERO: 7}
