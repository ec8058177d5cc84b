"""The process's one OpenVINO core."""

from __future__ import annotations

from functools import cache

import openvino as ov


@cache
def shared_core() -> ov.Core:
    """The core that everything here uses, kept until the process ends.

    Each core loads the processor's plugin, and the plugin gives its thread a stack for signal handlers, putting back
    the one before it when it goes. With two cores that go in the order in which they came, what is put back is a stack
    that has been freed, and the next signal, a service's SIGTERM, ends in a segmentation fault (OpenVINO 2026.4).
    """
    return ov.Core()
