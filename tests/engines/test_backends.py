"""Which backend is taken: TensorRT where there is a driver, and never the processor in its place."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from engines import backends
from engines.backends import BackendChoice, open_compiler
from engines.errors import DeviceError, MillwatchError, UsageError
from engines.openvino.compiler import OpenVINOCompiler
from engines.tensorrt import device
from engines.tensorrt.compiler import TensorRTCompiler
from engines.tensorrt.device import CudaDevice

L4 = CudaDevice(1, "NVIDIA L4", (8, 9), "580.65.06", "13.0", 24_000_000_000)


class Probe:
    """Stands in for the question to the driver; remembers which GPUs were asked for."""

    def __init__(self, answer: CudaDevice | DeviceError) -> None:
        self.answer = answer
        self.asked: list[int] = []

    def __call__(self, ordinal: int = 0) -> CudaDevice:
        self.asked.append(ordinal)
        if isinstance(self.answer, DeviceError):
            raise self.answer
        return self.answer


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Probe:
    """A machine with a GPU, its driver and the packages."""
    found = Probe(L4)
    monkeypatch.setattr(device, "driver_present", lambda: True)
    monkeypatch.setattr(device, "probe_cuda", found)
    library = ModuleType("tensorrt")
    library.__version__ = "11.4.0.106"  # type: ignore[attr-defined]
    for name in ("pycuda", "pycuda.driver", "cuda", "cuda.bindings", "cuda.bindings.driver"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "tensorrt", library)
    return found


@pytest.mark.parametrize(("backend", "named"), [("auto", "auto"), ("auto", "cpu"), ("openvino", "CPU")])
def test_a_machine_without_a_driver_uses_the_processor_and_asks_nobody(
    probe: Probe, monkeypatch: pytest.MonkeyPatch, backend: BackendChoice, named: str
) -> None:
    monkeypatch.setattr(device, "driver_present", lambda: False)
    assert isinstance(open_compiler(backend, named), OpenVINOCompiler)
    assert probe.asked == []


def test_a_gpu_is_used_where_it_may_be(probe: Probe, tmp_path: Path) -> None:
    for backend, named, ordinal in (("auto", "auto", 0), ("auto", "cuda:1", 1), ("tensorrt", "1", 1)):
        compiler = open_compiler(backend, named, cache_folder=tmp_path)  # type: ignore[arg-type]
        assert isinstance(compiler, TensorRTCompiler)
        assert compiler.device.name == "NVIDIA L4"
        assert probe.asked.pop() == ordinal


def test_the_processor_can_be_asked_for_beside_a_gpu(probe: Probe) -> None:
    for backend, named in (("openvino", "auto"), ("auto", "cpu")):
        assert isinstance(open_compiler(backend, named), OpenVINOCompiler)  # type: ignore[arg-type]
    assert probe.asked == []


def test_a_driver_without_an_answer_is_an_error_and_not_the_processor_s_turn(probe: Probe) -> None:
    probe.answer = DeviceError("the NVIDIA driver finds no GPU")
    for backend in ("auto", "tensorrt"):
        with pytest.raises(DeviceError, match="finds no GPU"):
            open_compiler(backend)  # type: ignore[arg-type]


def test_a_gpu_that_is_named_is_asked_for_without_a_driver_too(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "driver_present", lambda: False)
    probe.answer = DeviceError("no NVIDIA driver here")
    with pytest.raises(DeviceError, match="no NVIDIA driver here"):
        open_compiler("auto", "cuda:0")


@pytest.mark.parametrize(
    ("module", "package"),
    [("tensorrt", "tensorrt"), ("pycuda.driver", "pycuda"), ("cuda.bindings.driver", "cuda.bindings")],
)
def test_a_gpu_without_its_packages_is_an_error_that_names_the_package(
    probe: Probe, monkeypatch: pytest.MonkeyPatch, module: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    for backend in ("auto", "tensorrt"):
        with pytest.raises(DeviceError) as caught:
            open_compiler(backend)  # type: ignore[arg-type]
        said = str(caught.value)
        assert said.startswith(f"NVIDIA L4 is here, but the package {package} cannot be used (")
        assert said.endswith("install the extra gpu (docs/gpu.md), or set engine.backend: openvino")
        assert "\n" not in said
        assert caught.value.exit_code == 5


def test_a_tensorrt_that_is_too_old_is_an_error(probe: Probe) -> None:
    sys.modules["tensorrt"].__version__ = "8.6.1"  # type: ignore[attr-defined]
    with pytest.raises(DeviceError, match=r"TensorRT 8\.6\.1 is too old, 10 or newer is needed"):
        open_compiler()


@pytest.mark.parametrize(
    ("backend", "named"), [("openvino", "gpu"), ("openvino", "cuda:0"), ("tensorrt", "cpu"), ("auto", "gpu")]
)
def test_a_device_that_the_backend_does_not_know_is_a_usage_error(
    probe: Probe, backend: BackendChoice, named: str
) -> None:
    with pytest.raises(UsageError, match=f"device '{named}'"):
        open_compiler(backend, named)


def test_a_machine_without_a_gpu_says_so_when_one_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real question, to a driver that is not there."""
    (tmp_path / "libcuda.so.1").write_bytes(b"no library")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    with pytest.raises(MillwatchError, match="no NVIDIA driver here") as caught:
        backends.open_compiler("tensorrt")
    assert caught.value.exit_code == 5
