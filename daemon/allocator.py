"""How the C library's allocator gives memory back."""

from __future__ import annotations

import ctypes
from typing import Final

M_MMAP_THRESHOLD: Final = -3
"""The parameter's number in glibc's malloc.h."""

LARGE_BYTES: Final = 1024 * 1024
"""What a fetch brings is larger, a frame of 1600x256 is smaller: where each frame was given back, fresh pages for the
next took 0.7 ms of processor time."""


def give_large_blocks_back() -> bool:
    """Let every block of :data:`LARGE_BYTES` go back to the system when it is freed; returns whether that was taken.

    By itself glibc keeps whatever is smaller than the largest block that was ever freed, up to 32 MiB. What fetches
    took at their most then stays with the process, in pieces, and its memory seems to grow for hours. Other C libraries
    do not know the parameter and are left as they are.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BYTES))
    except AttributeError:
        return False
