"""The parts that only a GPU has: its memory, and its graphs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from engines.errors import DeviceError
from engines.verification.cascade_parts import MemoryInUse, open_again_and_again
from engines.verification.opening import Bench
from engines.verification.report import Finding, Row, SkippedError


class Capture(Protocol):
    """What a runtime with graphs says of one stage at one batch size: why it is none, or None where it is."""

    @property
    def stage(self) -> str:
        """The stage's key."""

    @property
    def batch_size(self) -> int:
        """One of the stage's batch sizes."""

    @property
    def refusal(self) -> str | None:
        """Part of a sentence."""


def find_leaks(bench: Bench) -> Finding:
    """See :func:`open_again_and_again`, on the device's memory; a rehearsal looks at the process's own."""
    if bench.compiler.device.backend == "openvino":
        return open_again_and_again(bench, _resident_bytes)
    from engines.tensorrt.device import device_ordinal

    with device_memory_in_use(device_ordinal(bench.plan.device)) as memory_in_use:
        return open_again_and_again(bench, memory_in_use)


@contextmanager
def device_memory_in_use(ordinal: int) -> Iterator[MemoryInUse]:
    """Tells the bytes of a GPU's memory that are taken, by other processes as well: the check wants a quiet GPU.

    The primary context is held until the end. Whoever released it last would free everything in it, and with that every
    leak. Raises :class:`DeviceError` where the driver does not tell.
    """
    from cuda.bindings import driver

    def called(what: str, *arguments: Any) -> Any:
        code, *values = getattr(driver, what)(*arguments)
        if code:
            raise DeviceError(f"{what} failed: {code.name}")
        return values[0] if len(values) == 1 else values

    def in_use() -> int:
        called("cuCtxPushCurrent", context)
        free, total = called("cuMemGetInfo")
        called("cuCtxPopCurrent")
        return int(total) - int(free)

    called("cuInit", 0)
    device = called("cuDeviceGet", ordinal)
    context = called("cuDevicePrimaryCtxRetain", device)
    try:
        yield in_use
    finally:
        driver.cuDevicePrimaryCtxRelease(device)


def _resident_bytes() -> int:
    """Bytes of memory that this process has resident."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def look_at_graphs(bench: Bench) -> Finding:
    """Which runs were captured as a CUDA graph, by stage and batch size, and why the others were not.

    One that was not is launched kernel by kernel: slower, and no less right.
    """
    with bench.runtime(slots=1) as runtime:
        captures: Sequence[Capture] | None = getattr(runtime, "captures", None)
    if captures is None:
        raise SkippedError(f"the {bench.compiler.device.backend} backend has no graphs")
    figures: list[Row] = [
        {"stage": each.stage, "batch": each.batch_size, "captured": each.refusal is None, "reason": each.refusal}
        for each in captures
    ]
    captured = sum(each.refusal is None for each in captures)
    return Finding(f"{captured} of {len(captures)} runs are graphs", figures)
