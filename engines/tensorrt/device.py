"""Which NVIDIA GPU is here. Asked in a process of its own, since a broken driver can crash or hang whoever asks it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engines.children import hear_out
from engines.errors import DeviceError, UsageError

DRIVER_FILES: Final = ("proc/driver/nvidia/version", "dev/nvidiactl", "usr/lib/wsl/**/libcuda.so*")
"""What a loaded driver leaves on a machine; the last is WSL's, which has /dev/dxg for any maker's GPU."""

QUERY_LIMIT_S: Final = 60.0
"""How long the driver may take to answer. Without its persistence daemon it starts up for every process that asks,
which takes seconds for each GPU."""

OTHERWISE: Final = "or set engine.backend: openvino"

_QUERY: Final = Path(__file__).with_name("driver_query.py")

_fake_allowed = False
"""Tests of the backend's host code set this, and nothing else can: the fake driver of ``tests/gpu`` is no device."""


@dataclass(frozen=True, slots=True)
class CudaDevice:
    """One GPU. ``driver_version`` is like ``580.65.06``, ``cuda_version`` the highest that the driver knows, ``13.0``;
    ``memory_bytes`` is all of its memory."""

    ordinal: int
    name: str
    compute_capability: tuple[int, int]
    driver_version: str
    cuda_version: str
    memory_bytes: int


def driver_present(root: Path = Path("/")) -> bool:
    """Whether an NVIDIA driver is loaded on this machine, from files alone: nothing is started or imported."""
    return any(next(root.glob(name), None) is not None for name in DRIVER_FILES)


def device_ordinal(device: str) -> int:
    """The number that ``engine.device`` names: ``auto`` is the first GPU, ``1`` and ``cuda:1`` the second.

    Raises :class:`UsageError` for anything else.
    """
    if device.lower() == "auto":
        return 0
    found = re.fullmatch(r"(?:cuda:)?(\d{1,3})", device.lower())
    if found is None:
        raise UsageError(f"device {device!r}: the tensorrt backend takes auto, a GPU's number, or cuda:NUMBER")
    return int(found[1])


def probe_cuda(ordinal: int = 0) -> CudaDevice:
    """The GPU with this number as the driver counts them.

    Raises :class:`DeviceError` with one line that says what is missing: the driver, a GPU, the GPU with this number, or
    an answer.
    """
    answer = _ask(ordinal)
    match answer.get("problem"):
        case None:
            device = CudaDevice(
                ordinal=ordinal,
                name=answer["name"],
                compute_capability=(answer["compute_capability"][0], answer["compute_capability"][1]),
                driver_version=answer["driver_version"],
                cuda_version=answer["cuda_version"],
                memory_bytes=answer["memory_bytes"],
            )
            refuse_fake(device.name)
            return device
        case "no-driver":
            raise DeviceError(
                "no NVIDIA driver here: libcuda.so.1 cannot be loaded: install the driver, give a container access to"
                f" the GPU, {OTHERWISE}"
            )
        case "no-device":
            raise DeviceError(
                f"the NVIDIA driver finds no GPU ({answer['detail']}): make one visible to this process, {OTHERWISE}"
            )
        case "no-ordinal":
            last = answer["count"] - 1
            known = "only GPU 0" if last == 0 else f"only GPUs 0 to {last}"
            raise DeviceError(f"there is no GPU {ordinal}, {known}: set engine.device to one that is here")
        case _:
            raise DeviceError(f"the NVIDIA driver does not start ({answer['detail']}): see nvidia-smi, {OTHERWISE}")


def refuse_fake(name: str) -> None:
    """Raise :class:`DeviceError` where the device is the fake one of this project's tests."""
    if name.startswith("FAKE") and not _fake_allowed:
        raise DeviceError(f"{name}: this libcuda.so.1 belongs to Millwatch's tests and inspects nothing: remove it")


def _ask(ordinal: int) -> dict[str, Any]:
    """What the driver says, asked by a child of this process."""
    # -I: neither the working directory nor the user's packages decide what the child loads.
    command = [sys.executable, "-I", str(_QUERY), str(ordinal)]
    quiet = subprocess.DEVNULL
    child = subprocess.Popen(command, stdin=quiet, stdout=subprocess.PIPE, stderr=quiet, text=True)
    try:
        output = hear_out(child, QUERY_LIMIT_S)
    except subprocess.TimeoutExpired:
        raise DeviceError(
            f"the NVIDIA driver has not answered for {QUERY_LIMIT_S:.0f} s: see nvidia-smi and the kernel's log,"
            f" {OTHERWISE}"
        ) from None
    if child.returncode < 0:
        crash = signal.strsignal(-child.returncode) or f"signal {-child.returncode}"
        raise DeviceError(
            f"the NVIDIA driver crashed when it was asked for a GPU ({crash}): install it anew, {OTHERWISE}"
        )
    try:
        answer = json.loads(output or "")
    except ValueError:
        answer = {"problem": "refused", "detail": f"the question ended with exit code {child.returncode}"}
    return answer if isinstance(answer, dict) else {"problem": "refused", "detail": "the answer makes no sense"}
