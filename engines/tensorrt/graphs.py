"""CUDA graphs: a stage's copies and kernels recorded once, and launched with one call from then on.

PyCUDA has no capture. NVIDIA's own bindings have, and share stream handles with it, which are plain integers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pycuda.driver as cuda
from cuda.bindings import driver

from engines.tensorrt.context import EnqueueError, first_line


class CaptureRefusedError(Exception):
    """The work cannot be recorded; the message says why."""


class Graph:
    """A recorded piece of work. Obtained from :func:`captured`; every array in it keeps its address."""

    def __init__(self, executable: Any) -> None:
        self._executable = executable

    def launch(self, stream: int) -> None:
        """Enqueue it in a stream. Raises ``pycuda.driver.Error``."""
        (code,) = driver.cuGraphLaunch(self._executable, driver.CUstream(stream))
        if code:
            raise cuda.Error(f"cuGraphLaunch failed: {code.name}")


@contextmanager
def captured(stream: int, work: Callable[[], None]) -> Iterator[Graph]:
    """Record what ``work`` enqueues in a stream, without running it; the graph is destroyed at the end.

    The work must have run once, to its end: TensorRT's first run of a shape does more than later ones.
    Raises :class:`CaptureRefusedError`; the stream can be used as before then.
    """
    executable = _instantiated(_recorded(driver.CUstream(stream), work))
    try:
        # Otherwise the first launch does it, and takes memory then.
        (code,) = driver.cuGraphUpload(executable, driver.CUstream(stream))
        if code:
            raise CaptureRefusedError(f"cuGraphUpload failed: {code.name}")
        yield Graph(executable)
    finally:
        driver.cuGraphExecDestroy(executable)


def _recorded(stream: Any, work: Callable[[], None]) -> Any:
    # Calls of other threads, those of other runtimes in this process above all, do not spoil it.
    mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    (code,) = driver.cuStreamBeginCapture(stream, mode)
    if code:
        raise CaptureRefusedError(f"cuStreamBeginCapture failed: {code.name}")
    problem: str | None = None
    try:
        work()
    except (cuda.Error, EnqueueError) as error:
        problem = first_line(error)
    finally:
        # Also after a failure, since the stream records until it is told to end.
        code, graph = driver.cuStreamEndCapture(stream)
    if code:
        raise CaptureRefusedError(problem or f"cuStreamEndCapture failed: {code.name}")
    if problem is not None:
        driver.cuGraphDestroy(graph)
        raise CaptureRefusedError(problem)
    return graph


def _instantiated(graph: Any) -> Any:
    """A graph that can be launched; the recorded one is destroyed."""
    code, executable = driver.cuGraphInstantiate(graph, 0)
    driver.cuGraphDestroy(graph)
    if code:
        raise CaptureRefusedError(f"cuGraphInstantiate failed: {code.name}")
    return executable
