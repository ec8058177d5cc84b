"""Compiling stages for this machine's processor."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import openvino as ov

from engines.backend import DeviceInfo, EngineFile, Precision
from engines.cores import core_count
from engines.definition import CascadeDefinition, Stage
from engines.errors import EngineError
from engines.openvino.core import shared_core
from engines.openvino.kernels import BLOCKED_KERNELS, fastest, preferring
from engines.openvino.models import first_line, read_stage
from engines.openvino.runtime import OpenVINORuntime

DEVICE = "CPU"

SPARE_SLOTS = 2
"""Batches in flight beyond one per core: while the thread of one hands its results over, another keeps the core at work
(docs/engines.md has what that brings)."""


class OpenVINOCompiler:
    """Implements :class:`engines.backend.Compiler` for the processor.

    bfloat16 is tried where the processor has AMX, whose tiles it is made for; elsewhere float32 is the fastest that
    OpenVINO computes natively. Engines are for batches of one because one frame fills a core by itself: larger batches
    were measured slower and take memory for their activations (docs/engines.md).
    """

    suffix = ".blob"
    options: Mapping[str, str] = MappingProxyType({})

    def __init__(self) -> None:
        self._core = shared_core()
        self.device = DeviceInfo(
            backend="openvino",
            version=ov.get_version(),
            name=str(self._core.get_property(DEVICE, "FULL_DEVICE_NAME")).strip(),
            capabilities=" ".join(_processor_flags()),
        )
        flags = self.device.capabilities.split()
        amx = "amx_bf16" in flags
        self._narrow = "avx2" in flags and "avx512f" not in flags
        self.precisions: tuple[Precision, ...] = ("bf16", "f32") if amx else ("f32",)
        self.default_slots = core_count() + SPARE_SLOTS

    def batch_sizes(self, max_frames: int) -> tuple[int, ...]:
        """See :meth:`engines.backend.Compiler.batch_sizes`."""
        del max_frames
        return (1,)

    def runs(self, built_for: DeviceInfo) -> bool:
        """See :meth:`engines.backend.Compiler.runs`: on the same model of processor with the same extensions alone."""
        return built_for == self.device

    def build(
        self,
        stage: Stage,
        definition: CascadeDefinition,
        batch_sizes: Sequence[int],
        precision: Precision,
        folder: Path,
    ) -> tuple[EngineFile, ...]:
        """See :meth:`engines.backend.Compiler.build`: a file for each batch size."""
        engines = []
        for batch_size in batch_sizes:
            path = folder / f"{stage.key}-b{batch_size}{self.suffix}"
            path.write_bytes(self._compile(stage, definition, batch_size, precision))
            engines.append(EngineFile(stage.key, (batch_size,), precision, path))
        return tuple(engines)

    def open(
        self,
        definition: CascadeDefinition,
        engines: Sequence[EngineFile],
        *,
        slots: int,
        max_frames: int,
        threads: int | None = None,
    ) -> OpenVINORuntime:
        """See :meth:`engines.backend.Compiler.open`."""
        return OpenVINORuntime(
            self._core, self.device, definition, engines, slots=slots, max_frames=max_frames, threads=threads
        )

    def _compile(self, stage: Stage, definition: CascadeDefinition, batch_size: int, precision: Precision) -> bytes:
        model = read_stage(self._core, stage, definition, batch_size)
        # Streams and threads are set when the engine is opened.
        config = {"INFERENCE_PRECISION_HINT": precision, "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1}
        try:
            candidates = [model]
            if precision == "f32" and self._narrow:
                candidates.append(preferring(BLOCKED_KERNELS, self._core, model))
            compiled = fastest([self._core.compile_model(candidate, DEVICE, config) for candidate in candidates])
            exported = io.BytesIO()
            compiled.export_model(exported)
        except RuntimeError as error:
            raise EngineError(f"{stage.model}: {stage.key}: cannot be compiled: {first_line(error)}") from None
        return exported.getvalue()


def _processor_flags() -> list[str]:
    """The vector extensions that a compiled graph may rely on, from the kernel's list; none where there is no list."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return sorted(flag for flag in set(flags) if flag.startswith(("avx", "amx", "fma", "sse4")))
