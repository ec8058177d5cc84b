"""How many cores this process has."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def core_count(root: Path = Path("/")) -> int:
    """Cores that this process may use: those of its affinity, or fewer where a container or a unit has a quota of time.

    A quota of part of a core counts as a whole one. ``root`` is where ``proc`` and ``sys`` are mounted.
    """
    return min([len(os.sched_getaffinity(0)), *(math.ceil(cores) for cores in _quotas(root))])


def _quotas(root: Path) -> Iterator[float]:
    """The quotas, in cores, of this process's control group and of all that it lies in; each of them binds.

    Linux has two versions of control groups and may have both mounted: in one file quota and period, in the other two
    files (Documentation/admin-guide/cgroup-v2.rst, Documentation/scheduler/sched-bwc.rst).
    """
    for folder in _folders(root):
        for files in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
            try:
                words = " ".join((folder / name).read_text(encoding="ascii") for name in files).split()
                quota, period = (int(word) for word in words)
            except (OSError, ValueError):
                # Not this version, or "max": no quota.
                continue
            # Version 1 writes -1 for no quota.
            if quota > 0 and period > 0:
                yield quota / period


def _folders(root: Path) -> Iterator[Path]:
    """Folders of this process's control groups that may hold a quota, and of the groups around them."""
    mounts = root / "sys" / "fs" / "cgroup"
    try:
        lines = (root / "proc" / "self" / "cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        # Hierarchy, its controllers, and the group: "0::/system.slice" in version 2, "4:cpu,cpuacct:/" in version 1.
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = mounts / "cpu" if controllers else mounts
        # A container may see the path that its group has outside, while its own group is what is mounted: folders that
        # are not there have no quota.
        path = PurePosixPath(group.lstrip("/"))
        yield from (mount / part for part in (path, *path.parents))
