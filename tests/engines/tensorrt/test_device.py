"""Which GPU is here, asked of stand-ins for the driver."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from engines.errors import DeviceError, UsageError
from engines.tensorrt import device
from engines.tensorrt.device import CudaDevice, device_ordinal, driver_present, probe_cuda
from engines.tensorrt.driver_query import driver_version
from tests.support import stub_driver
from tests.support.stub_driver import build_driver, two_gpus


@pytest.fixture
def no_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Also on a machine that has one: the loader takes this file, and it is no library.
    (tmp_path / "libcuda.so.1").write_bytes(b"no library")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))


def use(source: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(build_driver(folder / "driver", source)))


def test_a_gpu_is_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(two_gpus(), tmp_path, monkeypatch)
    found = probe_cuda(1)
    assert found == CudaDevice(1, "NVIDIA L4", (8, 9), found.driver_version, "13.0", 24_000_000_000)


@pytest.mark.usefixtures("no_driver")
def test_no_driver_is_a_device_error_that_says_so() -> None:
    with pytest.raises(DeviceError, match=r"no NVIDIA driver here: libcuda\.so\.1 .* set engine\.backend: openvino$"):
        probe_cuda()


@pytest.mark.parametrize(
    ("source", "ordinal", "message"),
    [
        (stub_driver.NO_DEVICE, 0, r"finds no GPU \(cuInit: CUDA_ERROR_NO_DEVICE \(100\)\)"),
        (stub_driver.COUNTS_NONE, 0, r"finds no GPU \(it counts none\)"),
        (stub_driver.REFUSES, 0, r"does not start \(cuInit: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH \(803\)\)"),
        ("int cuInit(unsigned flags) { return 9999; }", 0, r"does not start \(cuInit: CUresult \(9999\)\)"),
        ("int nothing;", 0, r"does not start \(the question ended with exit code 1\)"),
        (stub_driver.CRASHES, 0, r"crashed when it was asked for a GPU \(Aborted\)"),
        (two_gpus(), 2, r"there is no GPU 2, only GPUs 0 to 1: set engine\.device"),
        (two_gpus("FAKE GPU"), 0, r"FAKE GPU: this libcuda\.so\.1 belongs to Millwatch's tests"),
    ],
)
def test_a_driver_in_trouble_is_a_device_error_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, ordinal: int, message: str
) -> None:
    use(source, tmp_path, monkeypatch)
    with pytest.raises(DeviceError, match=message) as caught:
        probe_cuda(ordinal)
    assert "\n" not in str(caught.value)


def test_a_driver_that_hangs_is_left_after_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(stub_driver.HANGS, tmp_path, monkeypatch)
    monkeypatch.setattr(device, "QUERY_LIMIT_S", 0.5)
    with pytest.raises(DeviceError, match=r"has not answered for \d+ s"):
        probe_cuda()


def test_a_fake_device_is_taken_only_where_a_test_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(two_gpus("FAKE GPU"), tmp_path, monkeypatch)
    monkeypatch.setattr(device, "_fake_allowed", True)
    assert probe_cuda().name == "FAKE GPU"


@pytest.mark.parametrize(("named", "ordinal"), [("auto", 0), ("0", 0), ("cuda:0", 0), ("3", 3), ("CUDA:12", 12)])
def test_a_device_is_named_by_number(named: str, ordinal: int) -> None:
    assert device_ordinal(named) == ordinal


@pytest.mark.parametrize("named", ["cpu", "gpu", "cuda", "cuda:", "-1", "0,1", "cuda:0:1", "1000", ""])
def test_any_other_name_is_a_usage_error(named: str) -> None:
    with pytest.raises(UsageError, match=rf"^device {re.escape(repr(named))}: "):
        device_ordinal(named)


@pytest.mark.parametrize(
    "name",
    [
        "proc/driver/nvidia/version",
        "dev/nvidiactl",
        "usr/lib/wsl/lib/libcuda.so.1",
        "usr/lib/wsl/drivers/nv_dispi.inf_amd64_0/libcuda.so.1.1",
    ],
)
def test_a_driver_is_known_by_its_files(tmp_path: Path, name: str) -> None:
    assert not driver_present(tmp_path)
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).touch()
    assert driver_present(tmp_path)


def test_another_maker_s_gpu_under_wsl_is_no_driver(tmp_path: Path) -> None:
    for name in ("dev/dxg", "usr/lib/wsl/lib/libdxcore.so"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    assert not driver_present(tmp_path)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.54.03  Tue Jun  6 22:20:39 UTC 2023\n", "535.54.03"),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\nGCC 12.3.0\n",
            "580.65.06",
        ),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  590.12  Release Build\n", "590.12"),
        ("something else\n", "unknown"),
    ],
)
def test_the_driver_s_version_is_read_from_its_own_file(tmp_path: Path, text: str, version: str) -> None:
    (tmp_path / "version").write_text(text, encoding="ascii")
    assert driver_version(tmp_path / "version") == version
