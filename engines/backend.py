"""The port to a device that runs engines: what the cascade asks of it, and what the builder does.

A backend has two sides. Its *compiler* turns one ONNX stage into engines for fixed batch sizes: a file for each, or one
for all of them. Its *runtime* holds the opened engines of a cascade and offers slots: each slot inspects one batch of
frames at a time, and slots work side by side, so that one's copies overlap another's kernels. Frames are handed to a
slot once for all stages; a stage then names the frames it wants by index. Batches smaller than an engine's are padded
inside the backend, so no shape is ever compiled while frames wait.

Every implementation passes ``tests/engines/contract_backend.py``. Heavy libraries are imported inside the backends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from engines.definition import CascadeDefinition, Stage
from engines.images import Frame
from engines.rle import Mask

BackendName = Literal["openvino", "tensorrt"]
Precision = Literal["f32", "bf16", "f16"]

Scores = NDArray[np.float32]
Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What an engine is built for: it fits where all of this is the same, unless it was built for more.

    ``name`` is the device's model name, ``capabilities`` what of it and of its driver a compiled engine relies on,
    ``version`` the backend library's.
    """

    backend: BackendName
    version: str
    name: str
    capabilities: str


@dataclass(frozen=True, slots=True)
class EngineFile:
    """A stage in one file, to be run in the precision for which it was built, for one or several batch sizes.

    Where a backend tells batch sizes apart by number, as TensorRT does by optimisation profile, the number is the place
    in ``batch_sizes``, which ascends.
    """

    stage: str
    batch_sizes: tuple[int, ...]
    precision: Precision
    path: Path


class Compiler(Protocol):
    """Builds engines for the device that is here.

    ``precisions`` are those worth trying, fastest first and ending with the exact one. ``options`` are the choices
    beside precision that change an engine, by name. ``default_slots`` is how many batches in flight suit the device.
    """

    device: DeviceInfo
    precisions: tuple[Precision, ...]
    options: Mapping[str, str]
    default_slots: int
    suffix: str

    def batch_sizes(self, max_frames: int) -> tuple[int, ...]:
        """The batch sizes, ascending, for which engines are built where a batch has up to ``max_frames`` frames."""

    def runs(self, built_for: DeviceInfo) -> bool:
        """Whether an engine of this library's version that was built for another device runs on the one here."""

    def build(
        self,
        stage: Stage,
        definition: CascadeDefinition,
        batch_sizes: Sequence[int],
        precision: Precision,
        folder: Path,
    ) -> tuple[EngineFile, ...]:
        """Compile one stage for all of ``batch_sizes`` (ascending) into files in ``folder``.

        Raises :class:`engines.errors.EngineError` where the model cannot be compiled.
        """

    def open(
        self,
        definition: CascadeDefinition,
        engines: Sequence[EngineFile],
        *,
        slots: int,
        max_frames: int,
        threads: int | None = None,
    ) -> Runtime:
        """Open built engines, ``slots`` batches of at most ``max_frames`` frames in flight.

        ``threads`` is the processor's threads for all slots together (default: every core); a GPU needs none. Engines
        of some stages only will do where only these are asked. Raises :class:`engines.errors.EngineError` where a file
        is not an engine for this device, or engines for smaller batches cannot hold ``max_frames``.
        """


class Slot(Protocol):
    """Room for one batch in flight, used by one thread at a time; a context manager that makes it that thread's.

    Arrays that a slot returns belong to it and are valid until its next call.
    """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def load(self, frames: Sequence[Frame]) -> None:
        """Hand over the frames of a batch, at most the runtime's ``max_frames``.

        Each is uint8 ``[height, width]`` of the cascade's input size, and the caller's again afterwards.
        """

    def gate(self, index: Index) -> Scores:
        """Scores float32 ``[n]`` of the frames at ``index`` int64 ``[n]``."""

    def classify(self, index: Index) -> Scores:
        """Scores float32 ``[n, classes]`` of the frames at ``index`` int64 ``[n]``."""

    def segment(self, class_number: int, index: Index, threshold: float) -> Iterator[Mask]:
        """Masks of one class for the frames at ``index``, one after the other.

        Each is uint8 0/1 ``[width, height]``: transposed, so that it lies in memory in the order of its run lengths. It
        is valid until the next one is asked for.
        """


class Runtime(Protocol):
    """The opened engines of a cascade on one device. Owns their memory; closing frees it on every path.

    Calls raise :class:`engines.errors.InferenceError` where one batch failed and the device still answers, and
    :class:`engines.errors.DeviceError` where it does not: then every later call raises that too.
    """

    device: DeviceInfo
    slots: Sequence[Slot]
    max_frames: int

    def probe(self) -> None:
        """Return if the device answers, else raise :class:`engines.errors.DeviceError`. Safe beside running slots."""

    def close(self) -> None:
        """Free everything. The slots must be idle."""


def output_shape(stage: Stage, definition: CascadeDefinition, batch_size: int) -> tuple[int, ...]:
    """Shape of the stage's output: scores ``[n]``, ``[n, classes]``, or transposed masks ``[n, width, height]``."""
    if stage.kind == "gate":
        return (batch_size,)
    if stage.kind == "classifier":
        return (batch_size, len(definition.classes))
    return (batch_size, definition.input.width, definition.input.height)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Places ``start`` to ``start + count`` of an index, for the engine of ``batch_size``; the rest is padding."""

    start: int
    count: int
    batch_size: int


def plan_chunks(count: int, batch_sizes: Sequence[int]) -> list[Chunk]:
    """Split ``count`` frames over engines of fixed sizes: each time the largest that can be filled.

    Only what is smaller than the smallest engine is padded, since on a processor padding costs as much as frames do.
    """
    sizes = sorted(batch_sizes, reverse=True)
    chunks: list[Chunk] = []
    start = 0
    while start < count:
        size = next((size for size in sizes if size <= count - start), sizes[-1])
        chunks.append(Chunk(start, min(size, count - start), size))
        start += size
    return chunks
