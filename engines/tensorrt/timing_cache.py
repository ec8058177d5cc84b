"""TensorRT's timing cache on disk: how fast kernels were when an engine was built, so that the next build is shorter.

It lies beside the folders of the cascades, one for each version of TensorRT and each model of GPU, since all cascades
gain from it. Losing it costs time and nothing else: one that cannot be read is as good as none, and one that cannot be
written is given up.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from pathlib import Path

MAGIC = b"millwatch timing cache 1\n"
_DIGEST_BYTES = hashlib.sha256().digest_size


def timing_cache_path(directory: Path, version: str, gpu: str) -> Path:
    """Where the timing cache of this version of TensorRT and this model of GPU lies in the engines' directory."""
    name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{version}-{gpu}").strip("-")
    return directory / f".timing-cache-{name}"


def read_timing_cache(path: Path) -> bytes:
    """What TensorRT serialised; nothing where there is none, or where the file is not what was written.

    TensorRT is given no damaged one: it has no promise that it would refuse it.
    """
    try:
        content = path.read_bytes()
    except OSError:
        return b""
    head = len(MAGIC) + _DIGEST_BYTES
    data = content[head:]
    return data if content[:head] == MAGIC + hashlib.sha256(data).digest() else b""


def write_timing_cache(path: Path, data: bytes) -> None:
    """Replace the file in one step; where that cannot be done the one before it stays."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(MAGIC + hashlib.sha256(data).digest() + data)
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
