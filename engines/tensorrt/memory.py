"""Memory of the host and of the device, each piece freed when its context manager ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pycuda.driver as cuda
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
