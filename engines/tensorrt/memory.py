"""Memory of the host and of the device, each piece freed when its context manager ends, and streams."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pycuda.driver as cuda
from cuda.bindings import driver
from numpy.typing import DTypeLike, NDArray


@contextmanager
def page_locked(shape: tuple[int, ...], dtype: DTypeLike) -> Iterator[NDArray[Any]]:
    """An array of zeros on the host that never moves, which a copy beside running kernels needs.

    Neither it nor a view of it may be touched after the context manager has ended.
    """
    array = cuda.pagelocked_empty(shape, dtype)
    try:
        array[...] = 0
        yield array
    finally:
        array.base.free()


@contextmanager
def on_device(size: int) -> Iterator[int]:
    """The address of ``size`` bytes on the device, at least one; what is in them is anything.

    CUDA aligns it to 256 bytes at least, which is what TensorRT asks for.
    """
    allocation = cuda.mem_alloc(max(size, 1))
    try:
        yield int(allocation)
    finally:
        allocation.free()


def new_stream() -> Any:
    """A stream of PyCUDA's, which only what waits for it is ordered behind.

    A plain one would wait for the legacy default stream, and that one for it: whatever another library does there, as a
    decoder of JPEG does, would bring every slot to a halt.
    """
    return cuda.Stream(int(driver.CUstream_flags.CU_STREAM_NON_BLOCKING))
