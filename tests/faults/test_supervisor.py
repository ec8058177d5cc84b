from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults.supervisor import Instance

PATIENCE_S = 60.0


def until(reached: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_fails_is_started_again_until_it_is_stopped(tmp_path: Path) -> None:
    instance = Instance("i1", [], tmp_path, module="no_such_module")
    instance.start()
    until(lambda: len(instance.lives) >= 3)
    instance.stop()
    assert set(instance.exits) <= {1, -15}
    assert instance.exits[1] >= 3
    assert instance.gave_up is None
    assert not any(life.asked for life in instance.lives[:3])
    assert "no_such_module" in instance.last_lines(1)[0]


def test_what_needs_a_hand_is_not_started_again(tmp_path: Path) -> None:
    instance = Instance("i1", ["kafka.bootstrap=nonsense"], tmp_path)
    instance.start()
    until(lambda: instance.gave_up)
    assert instance.exits == {2: 1}
    assert instance.gave_up is not None
    assert "kafka.bootstrap" in instance.gave_up
    assert instance.stop() is None


def test_what_ends_by_itself_as_if_all_were_done_needs_a_hand_too(tmp_path: Path) -> None:
    instance = Instance("i1", [], tmp_path, module="this")
    instance.start()
    until(lambda: instance.gave_up)
    instance.stop()
    assert instance.exits == {0: 1}


def test_partitions_are_owned_by_what_the_log_says_and_kept_over_a_drain(tmp_path: Path) -> None:
    instance = Instance("i1", [], tmp_path)
    entries = [
        ({"event": "partitions assigned", "partitions": [0, 1, 2]}, [0, 1, 2]),
        ({"event": "partitions move", "partitions": [2]}, [0, 1]),
        ({"event": "partitions assigned", "partitions": [0, 1, 3]}, [0, 1, 3]),
        ({"event": "stopping: frames in hand are finished"}, [0, 1, 3]),
        ({"event": "partitions move", "partitions": [0, 1, 3]}, [0, 1, 3]),
        ({"event": "partitions assigned", "partitions": [0, 1]}, [0, 1]),
        ({"event": "partitions lost", "partitions": [0, 1]}, []),
    ]
    for entry, owned in entries:
        with instance.log.open("a", encoding="utf-8") as log:
            log.write(f"{json.dumps(entry)}\nno JSON at all\n")
        assert instance.owned() == owned
