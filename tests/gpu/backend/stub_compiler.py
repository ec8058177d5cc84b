"""A compiler whose engines the stand-in for TensorRT runs: the runtime, and all of the contract, without a GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import openvino as ov

from engines.backend import DeviceInfo, EngineFile, Precision, Runtime
from engines.definition import CascadeDefinition, Stage
from engines.openvino.models import read_stage
from engines.tensorrt.device import CudaDevice
from tests.gpu.backend import stub_tensorrt

DEVICE = CudaDevice(0, "FAKE", (8, 9), "580.65.06", "13.0", 8 << 30)


class StubCompiler:
    """Implements :class:`engines.backend.Compiler`."""

    suffix = ".plan"
    precisions: tuple[Precision, ...] = ("f32",)
    options: Mapping[str, str] = MappingProxyType({})
    default_slots = 3
    device = DeviceInfo("tensorrt", stub_tensorrt.__version__, DEVICE.name, "compute capability 8.9")

    def batch_sizes(self, max_frames: int) -> tuple[int, ...]:
        return (1, max_frames)

    def runs(self, built_for: DeviceInfo) -> bool:
        return built_for == self.device

    def build(
        self,
        stage: Stage,
        definition: CascadeDefinition,
        batch_sizes: Sequence[int],
        precision: Precision,
        folder: Path,
    ) -> tuple[EngineFile, ...]:
        read_stage(ov.Core(), stage, definition, max(batch_sizes))
        frame = (definition.input.height, definition.input.width)
        path = folder / f"{stage.key}{self.suffix}"
        path.write_bytes(stub_tensorrt.stub_plan(stage.model.read_bytes(), batch_sizes, frame))
        return (EngineFile(stage.key, tuple(batch_sizes), precision, path),)

    def open(
        self,
        definition: CascadeDefinition,
        engines: Sequence[EngineFile],
        *,
        slots: int,
        max_frames: int,
        threads: int | None = None,
    ) -> Runtime:
        from engines.tensorrt.runtime import TensorRTRuntime

        return TensorRTRuntime(
            stub_tensorrt, DEVICE, self.device, definition, engines, slots=slots, max_frames=max_frames
        )
