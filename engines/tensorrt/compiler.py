"""Compiling stages for the NVIDIA GPU of this machine."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engines.backend import DeviceInfo, EngineFile, Precision
from engines.backends import HardwareCompatibility
from engines.definition import CascadeDefinition, Stage
from engines.errors import DeviceError, EngineError, UsageError
from engines.tensorrt.device import CudaDevice
from engines.tensorrt.half import to_half
from engines.tensorrt.network import PlanOptions, build_plan
from engines.tensorrt.stage_graph import read_graph
from engines.tensorrt.timing_cache import timing_cache_path

if TYPE_CHECKING:
    from engines.backend import Runtime

SLOTS: Final = 3
"""Batches in flight: one whose frames are copied, one at work, and one whose results are handed over."""

AMPERE: Final = (8, 0)
"""Compute capability of the first GPUs that a plan of level ``ampere_plus`` runs on."""


class TensorRTCompiler:
    """Implements :class:`engines.backend.Compiler` for one GPU.

    ``library`` is the module ``tensorrt``. ``hardware_compatibility`` lets engines run on other GPUs as well, at some
    cost in speed. ``cache_folder`` holds the timing cache; without it every kernel is timed anew. Raises
    :class:`UsageError` where engines of that compatibility could not run on this GPU.
    """

    suffix = ".plan"
    precisions: tuple[Precision, ...] = ("f16", "f32")
    default_slots = SLOTS

    def __init__(
        self,
        device: CudaDevice,
        library: Any,
        *,
        hardware_compatibility: HardwareCompatibility = "none",
        cache_folder: Path | None = None,
    ) -> None:
        self._cuda = device
        self._library = library
        self._compatibility = hardware_compatibility
        self.device = DeviceInfo(
            backend="tensorrt",
            version=str(library.__version__),
            name=device.name,
            capabilities=_capabilities(device),
        )
        self.options: Mapping[str, str] = {"hardware_compatibility": hardware_compatibility}
        if hardware_compatibility == "ampere_plus" and device.compute_capability < AMPERE:
            raise UsageError(
                f"engine.hardware_compatibility: ampere_plus is for GPUs of compute capability 8.0 or more, and the"
                f" {device.name} here has {_dotted(device.compute_capability)}"
            )
        cache = None if cache_folder is None else timing_cache_path(cache_folder, self.device.version, device.name)
        self._plan_options = PlanOptions(hardware_compatibility, cache)

    def batch_sizes(self, max_frames: int) -> tuple[int, ...]:
        """See :meth:`engines.backend.Compiler.batch_sizes`."""
        return batch_sizes(max_frames)

    def runs(self, built_for: DeviceInfo) -> bool:
        """See :meth:`engines.backend.Compiler.runs`.

        Without hardware compatibility only on the same model of GPU behind the same driver; with it on every GPU that
        its level names, whatever its driver.
        """
        here, there = self._cuda.compute_capability, _compute_capability(built_for)
        if built_for.backend != "tensorrt" or there is None:
            return False
        if self._compatibility == "ampere_plus":
            return min(here, there) >= AMPERE
        if self._compatibility == "same_compute_capability":
            return here == there
        return built_for == self.device

    def build(
        self,
        stage: Stage,
        definition: CascadeDefinition,
        batch_sizes: Sequence[int],
        precision: Precision,
        folder: Path,
    ) -> tuple[EngineFile, ...]:
        """See :meth:`engines.backend.Compiler.build`: one plan with a profile for each batch size."""
        graph = read_graph(stage, definition)
        if precision == "f16":
            try:
                graph = to_half(graph)
            except EngineError as error:
                raise EngineError(f"{stage.model}: {stage.key}: {error}") from None
        with _on_device(self._cuda.ordinal):
            plan = build_plan(
                self._library, graph.SerializeToString(), stage, definition, batch_sizes, self._plan_options
            )
        path = folder / f"{stage.key}{self.suffix}"
        path.write_bytes(plan)
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
        """See :meth:`engines.backend.Compiler.open`; ``threads`` is nothing that a GPU needs."""
        del threads
        from engines.tensorrt.runtime import TensorRTRuntime

        return TensorRTRuntime(
            self._library, self._cuda, self.device, definition, engines, slots=slots, max_frames=max_frames
        )


def batch_sizes(max_frames: int) -> tuple[int, ...]:
    """The batch sizes that engines are built for: the powers of two below ``max_frames``, and itself."""
    powers = (2**exponent for exponent in range(max_frames.bit_length()))
    return (*(power for power in powers if power < max_frames), max_frames)


@contextmanager
def _on_device(ordinal: int) -> Iterator[None]:
    """TensorRT builds for the GPU whose context is current, and times its kernels there.

    Raises :class:`DeviceError` where the device does not start, and instead of an :class:`EngineError` where it was
    lost: a smaller precision or another model would not bring it back.
    """
    from pycuda.driver import Error

    from engines.tensorrt.context import first_line, primary_context

    try:
        with primary_context(ordinal) as context:
            try:
                yield
            except EngineError as error:
                judged = context.judge("building an engine", error)
                raise judged if isinstance(judged, DeviceError) else error from None
    except Error as error:
        raise DeviceError(f"the GPU does not start: {first_line(error)}") from None


def _capabilities(device: CudaDevice) -> str:
    return (
        f"compute capability {_dotted(device.compute_capability)}, driver {device.driver_version},"
        f" CUDA {device.cuda_version}"
    )


def _compute_capability(built_for: DeviceInfo) -> tuple[int, int] | None:
    found = re.match(r"compute capability (\d+)\.(\d+),", built_for.capabilities)
    return (int(found[1]), int(found[2])) if found else None


def _dotted(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"
