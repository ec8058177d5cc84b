"""The TensorRT compiler's own choices: batch sizes, and which engines run where."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engines.backends import HardwareCompatibility
from engines.errors import UsageError
from engines.manifest import build_settings_digest
from engines.tensorrt.compiler import TensorRTCompiler
from engines.tensorrt.device import CudaDevice

LIBRARY: Any = SimpleNamespace(__version__="11.4.0.106")
L4 = CudaDevice(0, "NVIDIA L4", (8, 9), "580.65.06", "13.0", 24_000_000_000)
A10 = replace(L4, name="NVIDIA A10", compute_capability=(8, 6))
ADA = replace(L4, name="NVIDIA RTX 4000 Ada")
T4 = replace(L4, name="Tesla T4", compute_capability=(7, 5))
H100 = replace(L4, name="NVIDIA H100", compute_capability=(9, 0))
NEWER = replace(L4, driver_version="590.10", cuda_version="13.1")


def compiler(device: CudaDevice = L4, level: HardwareCompatibility = "none") -> TensorRTCompiler:
    return TensorRTCompiler(device, LIBRARY, hardware_compatibility=level)


@pytest.mark.parametrize(
    ("max_frames", "sizes"),
    [
        (1, (1,)),
        (2, (1, 2)),
        (3, (1, 2, 3)),
        (4, (1, 2, 4)),
        (6, (1, 2, 4, 6)),
        (8, (1, 2, 4, 8)),
        (64, (1, 2, 4, 8, 16, 32, 64)),
    ],
)
def test_batch_sizes_are_powers_of_two_and_the_largest(max_frames: int, sizes: tuple[int, ...]) -> None:
    assert compiler().batch_sizes(max_frames) == sizes


def test_a_device_is_described_by_what_an_engine_relies_on() -> None:
    device = compiler().device
    assert (device.backend, device.version, device.name) == ("tensorrt", "11.4.0.106", "NVIDIA L4")
    assert device.capabilities == "compute capability 8.9, driver 580.65.06, CUDA 13.0"


@pytest.mark.parametrize(
    ("level", "here", "runs"),
    [
        ("none", L4, True),
        ("none", ADA, False),
        ("none", NEWER, False),
        ("same_compute_capability", ADA, True),
        ("same_compute_capability", NEWER, True),
        ("same_compute_capability", A10, False),
        ("ampere_plus", A10, True),
        ("ampere_plus", H100, True),
        ("ampere_plus", NEWER, True),
    ],
)
def test_engines_of_an_l4_run_where_their_level_lets_them(
    level: HardwareCompatibility, here: CudaDevice, runs: bool
) -> None:
    assert compiler(here, level).runs(compiler(L4, level).device) is runs


def test_engines_of_an_older_gpu_do_not_run_on_ampere() -> None:
    assert not compiler(L4, "ampere_plus").runs(compiler(T4, "none").device)
    assert not compiler(L4, "ampere_plus").runs(replace(compiler().device, backend="openvino"))
    assert not compiler(L4, "ampere_plus").runs(replace(compiler().device, capabilities="avx2"))


def test_ampere_plus_is_refused_on_an_older_gpu() -> None:
    with pytest.raises(UsageError, match=r"ampere_plus is for GPUs of .* 8\.0 or more, and the Tesla T4 here has 7\.5"):
        compiler(T4, "ampere_plus")


def test_the_level_is_part_of_how_engines_are_built() -> None:
    levels: tuple[HardwareCompatibility, ...] = ("none", "ampere_plus", "same_compute_capability")
    digests = {build_settings_digest(compiler(L4, level), 16) for level in levels}
    assert len(digests) == 3


def test_the_timing_cache_lies_in_the_engines_directory(tmp_path: Path) -> None:
    built = TensorRTCompiler(L4, LIBRARY, cache_folder=tmp_path)
    assert built._plan_options.timing_cache == tmp_path / ".timing-cache-11.4.0.106-NVIDIA-L4"
    assert compiler()._plan_options.timing_cache is None
