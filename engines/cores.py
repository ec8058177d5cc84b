"""How many cores this process has."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
"""Where Linux shows the control groups (version 2) of this process's container."""


def core_count(cgroups: Path = CGROUPS) -> int:
    """Cores that this process may use: those of its affinity, or fewer where its container has a quota of time.

    A quota of part of a core counts as a whole one.
    """
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = (cgroups / "cpu.max").read_text(encoding="ascii").split()
        return min(cores, max(1, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):
        # No quota: "max" in its place, another version of control groups, or none.
        return cores
