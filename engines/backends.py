"""Which backend inspects on this machine."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Final, Literal

from engines.backend import BackendName, Compiler
from engines.errors import DeviceError, UsageError

BackendChoice = Literal["auto", "openvino", "tensorrt"]

HardwareCompatibility = Literal["none", "ampere_plus", "same_compute_capability"]
"""The GPUs that a TensorRT engine runs on: its own model, any of compute capability 8.0 or more, or any of its own."""

OLDEST_TENSORRT: Final = 10
"""The first major version whose networks can take their types from the graph, and have 64-bit and 8-bit inputs."""


def open_compiler(
    backend: BackendChoice = "auto",
    device: str = "auto",
    hardware_compatibility: HardwareCompatibility = "none",
    *,
    cache_folder: Path | None = None,
) -> Compiler:
    """The compiler, and with it the runtime, of a backend. Its libraries are imported here and no earlier.

    ``auto`` takes TensorRT where an NVIDIA driver is loaded, else OpenVINO: a GPU that cannot be used is an error that
    says so, and never a reason for the processor to take over. ``hardware_compatibility`` and ``cache_folder``, where
    TensorRT keeps how fast kernels were, matter to its engines alone.

    Raises :class:`DeviceError` where the backend is not here, :class:`UsageError` where it does not know the device.
    """
    name = _chosen(device) if backend == "auto" else backend
    if name == "tensorrt":
        return _tensorrt(device, hardware_compatibility, cache_folder)
    if device.lower() not in {"auto", "cpu"}:
        raise UsageError(f"device {device!r}: the openvino backend runs on the processor: use auto or cpu")
    from engines.openvino.compiler import OpenVINOCompiler

    return OpenVINOCompiler()


def _chosen(device: str) -> BackendName:
    """The backend of ``auto``: told by the device where it is named, else by the driver's files."""
    if device.lower() != "auto":
        return "openvino" if device.lower() == "cpu" else "tensorrt"
    from engines.tensorrt.device import driver_present

    return "tensorrt" if driver_present() else "openvino"


def _tensorrt(device: str, hardware_compatibility: HardwareCompatibility, cache_folder: Path | None) -> Compiler:
    from engines.tensorrt.device import device_ordinal, probe_cuda

    # The packages come last: without a driver they cannot even be imported, and then say less well what is missing.
    found = probe_cuda(device_ordinal(device))
    library = _package("tensorrt", found.name)
    _package("pycuda.driver", found.name)
    _package("cuda.bindings.driver", found.name)
    if int(library.__version__.partition(".")[0]) < OLDEST_TENSORRT:
        raise DeviceError(
            f"TensorRT {library.__version__} is too old, {OLDEST_TENSORRT} or newer is needed: install"
            " the extra gpu anew (docs/gpu.md), or set engine.backend: openvino"
        )
    from engines.tensorrt.compiler import TensorRTCompiler

    return TensorRTCompiler(found, library, hardware_compatibility=hardware_compatibility, cache_folder=cache_folder)


def _package(name: str, gpu: str) -> Any:
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        reason = " ".join(str(error).split())
        raise DeviceError(
            f"{gpu} is here, but the package {name.rpartition('.')[0] or name} cannot be used ({reason}): install"
            " the extra gpu (docs/gpu.md), or set engine.backend: openvino"
        ) from None
