"""Small stand-ins for ``libcuda.so.1``, compiled by gcc: drivers that answer a question with whatever a test wants."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

NO_DEVICE = "int cuInit(unsigned flags) { return 100; }"
"""A driver on a machine whose GPU was taken away."""

CRASHES = "#include <stdlib.h>\nint cuInit(unsigned flags) { abort(); }"
HANGS = "#include <unistd.h>\nint cuInit(unsigned flags) { for (;;) pause(); }"
REFUSES = "int cuInit(unsigned flags) { return 803; }"
COUNTS_NONE = "int cuInit(unsigned flags) { return 0; }\nint cuDeviceGetCount(int *n) { *n = 0; return 0; }"

ERROR_NAME = """
int cuGetErrorName(int code, const char **name) {
    *name = code == 100 ? "CUDA_ERROR_NO_DEVICE" : code == 803 ? "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH" : 0;
    return *name == 0;
}
"""


def two_gpus(name: str = "NVIDIA L4") -> str:
    """A driver for CUDA 13.0 with two GPUs of compute capability 8.9 and 24 GB."""
    return f"""
#include <stddef.h>
#include <string.h>
int cuInit(unsigned flags) {{ return 0; }}
int cuDriverGetVersion(int *version) {{ *version = 13000; return 0; }}
int cuDeviceGetCount(int *n) {{ *n = 2; return 0; }}
int cuDeviceGet(int *device, int ordinal) {{ *device = ordinal; return 0; }}
int cuDeviceGetName(char *name, int size, int device) {{ strncpy(name, "{name}", size); return 0; }}
int cuDeviceGetAttribute(int *value, int attribute, int device) {{ *value = attribute == 75 ? 8 : 9; return 0; }}
int cuDeviceTotalMem_v2(size_t *bytes, int device) {{ *bytes = 24000000000; return 0; }}
"""


def build_driver(folder: Path, source: str) -> Path:
    """Compile ``source`` into a ``libcuda.so.1`` in ``folder``, which is returned: name it in ``LD_LIBRARY_PATH``."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("no gcc to compile a stand-in for the driver with")
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / "libcuda.c"
    written.write_text(source + ERROR_NAME, encoding="utf-8")
    library = folder / "libcuda.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-w", "-o", library, written], check=True, timeout=60)
    return folder
