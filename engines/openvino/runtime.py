"""Running OpenVINO engines: slots side by side on the cores, no allocation from frame to frame."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from engines.backend import Chunk, DeviceInfo, EngineFile, Index, Scores, Slot, output_shape, plan_chunks
from engines.cores import core_count
from engines.definition import CascadeDefinition, Stage
from engines.errors import DeviceError, EngineError, InferenceError
from engines.images import Frame
from engines.openvino.models import first_line
from engines.rle import Mask

_OUTPUT_TYPE = {"gate": np.float32, "classifier": np.float32, "segmenter": np.uint8}


class OpenVINORuntime:
    """Implements :class:`engines.backend.Runtime` on the processor.

    Every slot is one stream of each compiled stage. Threads are not pinned: decoding and the stream's own thread share
    the cores with inference, and a pinned one would wait for its core while another is idle.
    """

    def __init__(
        self,
        core: ov.Core,
        device: DeviceInfo,
        definition: CascadeDefinition,
        engines: Sequence[EngineFile],
        *,
        slots: int,
        max_frames: int,
        threads: int | None,
    ) -> None:
        self.device = device
        self.max_frames = max_frames
        config = {
            "NUM_STREAMS": slots,
            "INFERENCE_NUM_THREADS": threads or core_count(),
            "ENABLE_CPU_PINNING": False,
            "ENABLE_HYPER_THREADING": True,
        }
        stages = {stage.key: stage for stage in definition.stages}
        compiled = [(stages[engine.stage], engine.batch_sizes[0], _import(core, engine, config)) for engine in engines]
        self.slots: Sequence[Slot] = tuple(OpenVINOSlot(definition, compiled, max_frames) for _ in range(slots))
        self._probe_slot = OpenVINOSlot(definition, compiled[:1], 1)
        self._probe_lock = threading.Lock()
        self._probe_frame: Frame = np.zeros((definition.input.height, definition.input.width), np.uint8)

    def probe(self) -> None:
        """See :meth:`engines.backend.Runtime.probe`: runs one blank frame through the first stage."""
        with self._probe_lock:
            self._probe_slot.load([self._probe_frame])
            try:
                self._probe_slot.run_first()
            except InferenceError as error:
                raise DeviceError(f"the processor does not answer: {error}") from None

    def close(self) -> None:
        """See :meth:`engines.backend.Runtime.close`."""
        self.slots = ()
        del self._probe_slot


class OpenVINOSlot:
    """Implements :class:`engines.backend.Slot`: buffers and infer requests of one batch in flight."""

    def __init__(
        self, definition: CascadeDefinition, compiled: Sequence[tuple[Stage, int, Any]], max_frames: int
    ) -> None:
        height, width = definition.input.height, definition.input.width
        self._frames: NDArray[np.uint8] = np.zeros((max_frames, height, width), np.uint8)
        # A tensor for every frame's place: a batch of one is inspected where it lies.
        self._places = [ov.Tensor(self._frames[place : place + 1], shared_memory=True) for place in range(max_frames)]
        self._scores: dict[str, Scores] = {}
        self._engines: dict[str, dict[int, _BoundEngine]] = {}
        for stage, batch_size, model in compiled:
            engine = _BoundEngine.bind(model, stage, definition, batch_size)
            self._engines.setdefault(stage.key, {})[batch_size] = engine
            if stage.kind != "segmenter":
                self._scores[stage.key] = np.empty((max_frames, *engine.output.shape[1:]), np.float32)
        self._segmenters = [stage.key for stage in definition.stages if stage.kind == "segmenter"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def load(self, frames: Sequence[Frame]) -> None:
        """See :meth:`engines.backend.Slot.load`."""
        for place, frame in enumerate(frames):
            self._frames[place] = frame

    def gate(self, index: Index) -> Scores:
        """See :meth:`engines.backend.Slot.gate`."""
        return self._score("gate", index)

    def classify(self, index: Index) -> Scores:
        """See :meth:`engines.backend.Slot.classify`."""
        return self._score("classifier", index)

    def segment(self, class_number: int, index: Index, threshold: float) -> Iterator[Mask]:
        """See :meth:`engines.backend.Slot.segment`."""
        key = self._segmenters[class_number]
        for chunk, engine in self._run(key, index, threshold):
            yield from engine.output[: chunk.count]

    def run_first(self) -> None:
        """Run the first engine of this slot on the frame that was loaded."""
        key = next(iter(self._engines))
        for _ in self._run(key, np.zeros(1, np.int64), 0.5):
            pass

    def _score(self, key: str, index: Index) -> Scores:
        scores = self._scores[key]
        for chunk, engine in self._run(key, index):
            scores[chunk.start : chunk.start + chunk.count] = engine.output[: chunk.count]
        return scores[: len(index)]

    def _run(self, key: str, index: Index, threshold: float | None = None) -> Iterator[tuple[Chunk, _BoundEngine]]:
        """Run a stage on the frames at ``index``; yields every chunk with the engine that holds its output."""
        engines = self._engines[key]
        for chunk in plan_chunks(len(index), tuple(engines)):
            engine = engines[chunk.batch_size]
            if threshold is not None and engine.threshold is not None:
                engine.threshold[0] = threshold
            if chunk.batch_size == 1:
                engine.request.set_tensor("frames", self._places[int(index[chunk.start])])
            else:
                # What lies behind the chosen frames is an earlier batch's: padding whose output nobody reads.
                chosen = index[chunk.start : chunk.start + chunk.count]
                # In numpy's default mode the result would be made in an array of its own first.
                np.take(self._frames, chosen, axis=0, out=engine.frames[: chunk.count], mode="clip")
            try:
                engine.request.start_async(share_inputs=True)
                engine.request.wait()
            except RuntimeError as error:
                raise InferenceError(f"{key}: inference failed: {first_line(error)}") from None
            except BaseException:
                # An interrupt between the two: the run must not outlive the arrays that it reads and writes.
                engine.request.wait()
                raise
            yield chunk, engine


@dataclass(frozen=True, slots=True)
class _BoundEngine:
    """An infer request whose inputs and outputs are arrays of ours: a run moves no memory and allocates none."""

    request: Any
    frames: NDArray[np.uint8]
    threshold: NDArray[np.float32] | None
    output: NDArray[Any]

    @classmethod
    def bind(cls, model: Any, stage: Stage, definition: CascadeDefinition, batch_size: int) -> _BoundEngine:
        """Bind a compiled model; frames uint8 ``[batch, height, width]``, output as :func:`output_shape` says."""
        request = model.create_infer_request()
        frames: NDArray[np.uint8] = np.zeros((batch_size, definition.input.height, definition.input.width), np.uint8)
        request.set_tensor("frames", ov.Tensor(frames, shared_memory=True))
        # The slot gathers frames before the graph sees them, so the graph's own selection takes them as they lie.
        request.set_tensor("index", ov.Tensor(np.arange(batch_size, dtype=np.int64)))
        threshold = np.full(1, 0.5, np.float32) if stage.kind == "segmenter" else None
        if threshold is not None:
            request.set_tensor("threshold", ov.Tensor(threshold, shared_memory=True))
        output: NDArray[Any] = np.zeros(output_shape(stage, definition, batch_size), _OUTPUT_TYPE[stage.kind])
        request.set_output_tensor(ov.Tensor(output, shared_memory=True))
        return cls(request, frames, threshold, output)


def _import(core: ov.Core, engine: EngineFile, config: dict[str, Any]) -> Any:
    # A file holds the graph and not how it is to be computed: without the hint, what was built in float32 would run in
    # bfloat16 wherever the processor has AMX.
    config = {**config, "INFERENCE_PRECISION_HINT": engine.precision}
    try:
        return core.import_model(ov.Tensor(np.fromfile(engine.path, np.uint8)), "CPU", config)
    except (RuntimeError, OSError) as error:
        raise EngineError(f"{engine.path}: not an engine that OpenVINO can open here: {first_line(error)}") from None
