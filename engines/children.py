"""Waiting for a process that a broken driver may hang where not even SIGKILL reaches it."""

from __future__ import annotations

import contextlib
import subprocess
from typing import Final

KILL_LIMIT_S: Final = 5.0
"""How long a process that was ended may take to go."""


def hear_out(child: subprocess.Popen[str], limit_s: float, given: str | None = None) -> str | None:
    """Give a process its standard input, and wait for its end; returns its standard output where that is a pipe.

    After ``limit_s`` seconds it is killed, which raises ``subprocess.TimeoutExpired``, and so it is whatever else ends
    the wait. A process that hangs inside the kernel's part of a driver does not even die: it is left behind.
    """
    try:
        output, _ = child.communicate(given, timeout=limit_s)
    except BaseException:
        child.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.communicate(timeout=KILL_LIMIT_S)
        raise
    return output
