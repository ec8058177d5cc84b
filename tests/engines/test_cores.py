"""How many cores a process may use: its affinity, and the quotas of control groups, in files as Linux writes them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engines.cores import core_count

CORES = 8


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(CORES)))


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="ascii")
    return root


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000", CORES),
        ("100000 100000", 1),
        ("50000 100000", 1),
        ("100001 100000", 2),
        ("400000 100000", 4),
        ("9900000 100000", CORES),
        ("nonsense", CORES),
        ("100000 0", CORES),
    ],
)
def test_a_quota_of_version_2_counts_as_that_many_cores(tmp_path: Path, quota: str, cores: int) -> None:
    files = {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": quota}
    assert core_count(write(tmp_path, files)) == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", CORES), ("150000", 2), ("300000", 3)])
def test_a_quota_of_version_1_counts_as_that_many_cores(tmp_path: Path, quota: str, cores: int) -> None:
    group = "sys/fs/cgroup/cpu/docker/4f2a"
    files = {
        "proc/self/cgroup": "5:memory:/elsewhere\n4:cpu,cpuacct:/docker/4f2a\n0::/",
        f"{group}/cpu.cfs_quota_us": quota,
        f"{group}/cpu.cfs_period_us": "100000",
    }
    assert core_count(write(tmp_path, files)) == cores


def test_the_least_of_a_group_and_those_around_it_binds(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/plant.slice/millwatch.service",
        "sys/fs/cgroup/plant.slice/cpu.max": "300000 100000",
        "sys/fs/cgroup/plant.slice/millwatch.service/cpu.max": "500000 100000",
    }
    assert core_count(write(tmp_path, files)) == 3
    write(tmp_path, {"sys/fs/cgroup/plant.slice/millwatch.service/cpu.max": "200000 100000"})
    assert core_count(tmp_path) == 2


def test_a_group_that_is_mounted_without_its_path_outside_is_found(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "4:cpu,cpuacct:/docker/4f2a",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
    }
    assert core_count(write(tmp_path, files)) == 2


def test_without_control_groups_the_affinity_counts(tmp_path: Path) -> None:
    assert core_count(tmp_path) == CORES
