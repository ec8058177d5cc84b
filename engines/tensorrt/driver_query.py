"""Asks the NVIDIA driver for one device, and prints the answer as JSON: a program of its own, started as a child.

    python -I driver_query.py ORDINAL

It needs nothing but the standard library, so that a machine can be told to have no GPU without any package for one. A
broken driver may crash or hang the process that asks: :mod:`engines.tensorrt.device` starts this one and sees to that.
"""

from __future__ import annotations

import ctypes
import json
import re
import sys
from pathlib import Path
from typing import Any

DRIVER_VERSION_FILE = Path("/proc/driver/nvidia/version")

# From cuda.h: CUresult and CUdevice_attribute.
NO_DEVICE = 100
INVALID_DEVICE = 101
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76


class DriverRefusalError(Exception):
    """A call of the driver that failed; ``code`` is its CUresult."""

    def __init__(self, call: str, code: int, name: str) -> None:
        super().__init__(f"{call}: {name}")
        self.code = code


def query(ordinal: int) -> dict[str, Any]:
    """The device's facts, or under ``problem`` which of ``no-driver``, ``no-device``, ``no-ordinal``, ``refused``."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return {"problem": "no-driver", "detail": str(error)}
    count = ctypes.c_int()
    try:
        _call(driver, "cuInit", 0)
        _call(driver, "cuDeviceGetCount", ctypes.byref(count))
        if count.value == 0:
            return {"problem": "no-device", "detail": "it counts none"}
        if ordinal >= count.value:
            return {"problem": "no-ordinal", "count": count.value}
        return _device(driver, ordinal)
    except DriverRefusalError as refusal:
        return {"problem": "no-device" if refusal.code == NO_DEVICE else "refused", "detail": str(refusal)}


def driver_version(file: Path = DRIVER_VERSION_FILE) -> str:
    """The kernel driver's version as it writes it itself, else NVML's, as under WSL; ``unknown`` where neither says."""
    try:
        text = file.read_text(encoding="ascii", errors="replace")
    except OSError:
        text = _nvml_driver_version()
    found = re.search(r"(?<![\d.])\d{3,}\.\d+(\.\d+)*", text)
    return found[0] if found else "unknown"


def _device(driver: ctypes.CDLL, ordinal: int) -> dict[str, Any]:
    device, version, major, minor = (ctypes.c_int() for _ in range(4))
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    _call(driver, "cuDriverGetVersion", ctypes.byref(version))
    _call(driver, "cuDeviceGet", ctypes.byref(device), ordinal)
    _call(driver, "cuDeviceGetName", name, len(name), device)
    _call(driver, "cuDeviceGetAttribute", ctypes.byref(major), CAPABILITY_MAJOR, device)
    _call(driver, "cuDeviceGetAttribute", ctypes.byref(minor), CAPABILITY_MINOR, device)
    _call(driver, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    return {
        "name": name.value.decode("utf-8", errors="replace").strip(),
        "compute_capability": [major.value, minor.value],
        "driver_version": driver_version(),
        # 13000 is 13.0, 12080 is 12.8.
        "cuda_version": f"{version.value // 1000}.{version.value % 1000 // 10}",
        "memory_bytes": memory.value,
    }


def _call(driver: ctypes.CDLL, name: str, *arguments: Any) -> None:
    code = getattr(driver, name)(*arguments)
    if code:
        text = ctypes.c_char_p()
        # Names nothing where it does not know the code; the code is told in any case.
        driver.cuGetErrorName(code, ctypes.byref(text))
        raise DriverRefusalError(name, code, f"{(text.value or b'CUresult').decode(errors='replace')} ({code})")


def _nvml_driver_version() -> str:
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        text = ctypes.create_string_buffer(80)
        if nvml.nvmlInit_v2() or nvml.nvmlSystemGetDriverVersion(text, len(text)):
            return ""
    except (OSError, AttributeError):
        return ""
    return text.value.decode("ascii", errors="replace")


if __name__ == "__main__":
    print(json.dumps(query(int(sys.argv[1]))))  # noqa: T201 - the parent reads it
