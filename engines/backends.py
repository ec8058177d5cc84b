"""Which backend inspects on this machine."""

from __future__ import annotations

from typing import Literal

from engines.backend import BackendName, Compiler
from engines.errors import DeviceError, UsageError

BackendChoice = Literal["auto", "openvino", "tensorrt"]

HardwareCompatibility = Literal["none", "ampere_plus", "same_compute_capability"]
"""The GPUs that a TensorRT engine runs on: its own model, any of compute capability 8.0 or more, or any of its own."""


def open_compiler(
    backend: BackendChoice = "auto", device: str = "auto", hardware_compatibility: HardwareCompatibility = "none"
) -> Compiler:
    """The compiler, and with it the runtime, of a backend. Its libraries are imported here and no earlier.

    ``auto`` takes OpenVINO, the one backend of this version. ``hardware_compatibility`` matters to engines of TensorRT
    alone. Raises :class:`DeviceError` where the backend is not here,
    :class:`UsageError` where it does not know the device.
    """
    del hardware_compatibility
    name: BackendName = "openvino" if backend == "auto" else backend
    if name == "tensorrt":
        raise DeviceError("no GPU backend in this installation: this version of Millwatch inspects with openvino only")
    if device.lower() not in {"auto", "cpu"}:
        raise UsageError(f"device {device!r}: the openvino backend runs on the processor: use auto or cpu")
    from engines.openvino.compiler import OpenVINOCompiler

    return OpenVINOCompiler()
