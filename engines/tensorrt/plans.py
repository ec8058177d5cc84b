"""Plans as they are read from their files: what each of them computes, and whether it is what its manifest says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from engines.backend import EngineFile
from engines.definition import CascadeDefinition, Stage
from engines.errors import DeviceError, EngineError
from engines.tensorrt.logger import first_error, shared_logger
from engines.tensorrt.stage_graph import OUTPUT

MEMORY_ADVICE = "the GPU or this machine has too little memory left: lower batch.max_frames or engine.slots"
"""What to do where memory is short while engines are opened."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One deserialised plan, and its file. Profile ``p`` of ``engine`` is for ``file.batch_sizes[p]`` frames."""

    stage: Stage
    file: EngineFile
    engine: Any

    @property
    def output(self) -> str:
        """Name of the output."""
        return OUTPUT[self.stage.kind][0]

    @property
    def output_type(self) -> DTypeLike:
        """Type of the output's elements."""
        return np.uint8 if self.stage.kind == "segmenter" else np.float32

    def activations(self) -> int:
        """Bytes that a run in any profile needs for what its layers hand each other."""
        sizes = map(self.engine.get_device_memory_size_for_profile_v2, range(len(self.file.batch_sizes)))
        return max(sizes, default=0)


def read_plan(library: Any, runtime: Any, file: EngineFile, definition: CascadeDefinition, max_frames: int) -> Plan:
    """Deserialise one plan with TensorRT's ``runtime``, for slots of ``max_frames`` frames.

    Raises :class:`EngineError` where the file is no plan for this device, version, stage or number of frames, and
    :class:`DeviceError` where memory does not suffice.
    """
    logger = shared_logger(library)
    logger.take()
    try:
        content = file.path.read_bytes()
    except OSError as error:
        raise EngineError(f"{file.path}: cannot be read: {error.strerror}") from None
    engine = runtime.deserialize_cuda_engine(content)
    if engine is None:
        raise refused(f"{file.path}: not an engine that TensorRT {library.__version__} can open here", logger.take())
    stage = next(stage for stage in definition.stages if stage.key == file.stage)
    plan = Plan(stage, file, engine)
    _check_tensors(library, plan)
    _check_profiles(plan, definition, max_frames)
    return plan


def refused(what: str, told: Sequence[str]) -> EngineError | DeviceError:
    """The error for what TensorRT did not do; ``told`` is what its logger heard meanwhile."""
    reason = first_error(told)
    if any("out of memory" in line.lower() or "outofmemory" in line.lower() for line in told):
        return DeviceError(f"{MEMORY_ADVICE} ({what}: {reason})")
    return EngineError(f"{what}: {reason}")


def _check_tensors(library: Any, plan: Plan) -> None:
    """Whether inputs and output are the stage's, by name and type: a file can be anybody's."""
    kinds = library.DataType
    wanted = {"frames": kinds.UINT8, "index": kinds.INT64, "scores": kinds.FLOAT}
    if plan.stage.kind == "segmenter":
        wanted = {"frames": kinds.UINT8, "index": kinds.INT64, "threshold": kinds.FLOAT, "masks": kinds.UINT8}
    engine = plan.engine
    names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
    found = {name: engine.get_tensor_dtype(name) for name in names}
    if found != wanted:
        raise EngineError(f"{plan.file.path}: not an engine of {plan.stage.key}: {_listed(found)}")


def _check_profiles(plan: Plan, definition: CascadeDefinition, max_frames: int) -> None:
    engine, file = plan.engine, plan.file
    sizes = (definition.input.height, definition.input.width)
    if engine.num_optimization_profiles != len(file.batch_sizes):
        raise EngineError(f"{file.path}: has {engine.num_optimization_profiles} profiles, not {len(file.batch_sizes)}")
    for number, batch_size in enumerate(file.batch_sizes):
        least, _, most = (tuple(shape) for shape in engine.get_tensor_profile_shape("frames", number))
        if least[1:] != sizes or most[1:] != sizes:
            raise EngineError(f"{file.path}: for frames of {list(most[1:])}, not {list(sizes)}")
        if not least[0] <= max_frames <= most[0]:
            raise EngineError(
                f"{file.path}: built for batches of at most {most[0]} frames, asked for are {max_frames}: run millwatch"
                " build-engines, or lower batch.max_frames"
            )
        if tuple(engine.get_tensor_profile_shape("index", number)[2]) != (batch_size,):
            raise EngineError(f"{file.path}: profile {number} is not for batches of {batch_size} frames")


def _listed(types: dict[str, Any]) -> str:
    return "its tensors are " + ", ".join(f"{name} {kind.name.lower()}" for name, kind in sorted(types.items()))
