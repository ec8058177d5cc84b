from __future__ import annotations

import os
from pathlib import Path

import pytest

from engines.cores import core_count

AFFINITY = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000", AFFINITY),
        ("100000 100000", 1),
        ("50000 100000", 1),
        ("100001 100000", min(AFFINITY, 2)),
        ("9900000 100000", AFFINITY),
        ("nonsense", AFFINITY),
    ],
)
def test_a_quota_of_time_counts_as_that_many_cores(tmp_path: Path, quota: str, cores: int) -> None:
    (tmp_path / "cpu.max").write_text(quota + "\n", encoding="ascii")
    assert core_count(tmp_path) == cores


def test_without_control_groups_the_affinity_counts(tmp_path: Path) -> None:
    assert core_count(tmp_path) == AFFINITY
