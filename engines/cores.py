"""How many cores this process has."""

from __future__ import annotations

import os


def core_count() -> int:
    """Cores that this process may run on: fewer than the machine's where a service manager set its affinity."""
    return len(os.sched_getaffinity(0))
