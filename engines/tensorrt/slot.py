"""One batch in flight on the GPU: a stream of its own, and all memory that its runs read and write.

Frames are uploaded once; every stage selects from them on the device by index. Whatever a slot enqueues runs in the
order of its stream, so all its runs share one index, one output and one block of activations on the device. On the host
there are two turns of index, threshold and output: while the caller reads the masks of one chunk of frames, the next
chunk runs in the other turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Self

import numpy as np
import pycuda.driver as cuda
from numpy.typing import DTypeLike, NDArray

from engines.backend import Chunk, Index, Scores, output_shape, plan_chunks
from engines.definition import CascadeDefinition
from engines.errors import EngineError
from engines.images import Frame
from engines.rle import Mask
from engines.tensorrt.context import DeviceContext, EnqueueError, first_line
from engines.tensorrt.graphs import CaptureRefusedError, Graph, captured
from engines.tensorrt.logger import shared_logger
from engines.tensorrt.memory import new_stream, on_device, page_locked
from engines.tensorrt.plans import Plan, refused

TURNS = 2
"""Chunks of a stage that a slot holds at once: one that the caller reads, and one that runs."""

# A thread that waits leaves its core to those that decode; the times of events are read by nobody.
EVENT_FLAGS = cuda.event_flags.BLOCKING_SYNC | cuda.event_flags.DISABLE_TIMING


@dataclass(frozen=True, slots=True)
class Turn:
    """The host's side of one run: page-locked arrays, and the event that says that they are the host's again.

    ``index`` int64 ``[largest batch]``, ``threshold`` float32 ``[1]``, ``output`` uint8 ``[bytes of the largest]``.
    """

    index: NDArray[np.int64]
    threshold: NDArray[np.float32]
    output: NDArray[np.uint8]
    done: Any


@dataclass(slots=True)
class BoundEngine:
    """A stage at one batch size, bound to a slot's memory. ``graphs`` has one for every turn, or none at all where it
    cannot be recorded: then ``refusal`` says why."""

    key: str
    context: Any
    batch_size: int
    takes_threshold: bool
    output_shape: tuple[int, ...]
    output_type: DTypeLike
    output_bytes: int
    graphs: list[Graph] = field(default_factory=list)
    refusal: str | None = None


class TensorRTSlot:
    """Implements :class:`engines.backend.Slot`. Its memory belongs to the stack that it is made with."""

    def __init__(
        self,
        library: Any,
        context: DeviceContext,
        definition: CascadeDefinition,
        plans: Sequence[Plan],
        max_frames: int,
        stack: ExitStack,
    ) -> None:
        """Raises ``pycuda.driver.Error`` where memory or anything else is refused, and :class:`EngineError`."""
        self._library = library
        self._context = context
        self._segmenters = [stage.key for stage in definition.stages if stage.kind == "segmenter"]
        self._engines: dict[str, dict[int, BoundEngine]] = {}
        self._turns: list[Turn] = []
        self._next_turn = 0
        self._graphs = ExitStack()
        self._stream: Any = None
        largest = max(max(plan.file.batch_sizes) for plan in plans)
        output_bytes = max(_output_bytes(plan, definition, max(plan.file.batch_sizes)) for plan in plans)

        def held(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
            return stack.enter_context(page_locked(shape, dtype))

        shape = (max_frames, definition.input.height, definition.input.width)
        self._frames: NDArray[np.uint8] = held(shape, np.uint8)
        arrays = [
            (held((largest,), np.int64), held((1,), np.float32), held((output_bytes,), np.uint8)) for _ in range(TURNS)
        ]
        activations = max(plan.activations() for plan in plans)
        self._memory = _DeviceMemory(
            frames=stack.enter_context(on_device(self._frames.nbytes)),
            index=stack.enter_context(on_device(arrays[0][0].nbytes)),
            threshold=stack.enter_context(on_device(arrays[0][1].nbytes)),
            output=stack.enter_context(on_device(output_bytes)),
            activations=stack.enter_context(on_device(activations)),
            activation_bytes=activations,
        )
        # From here on, whatever runs is waited for before any of this is freed.
        stack.callback(self._let_go)
        self._stream = new_stream()
        self._turns += [Turn(*each, cuda.Event(EVENT_FLAGS)) for each in arrays]
        self._scores: dict[str, Scores] = {}
        for plan in plans:
            for number, batch_size in enumerate(plan.file.batch_sizes):
                engine = self._bind(plan, number, batch_size, definition)
                self._engines.setdefault(plan.stage.key, {})[batch_size] = engine
                self._prepare(plan, engine)
            if plan.stage.kind != "segmenter":
                self._scores[plan.stage.key] = np.empty((max_frames, *engine.output_shape[1:]), np.float32)

    @property
    def engines(self) -> tuple[BoundEngine, ...]:
        """Every stage at every batch size, as this slot runs it."""
        return tuple(engine for sizes in self._engines.values() for engine in sizes.values())

    def __enter__(self) -> Self:
        self._context.push()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._context.pop()

    def load(self, frames: Sequence[Frame]) -> None:
        """See :meth:`engines.backend.Slot.load`: copied into page-locked memory, and on their way when this returns.

        Nothing need be waited for: a run that is waited for has waited for the upload before it, and what an abandoned
        run computes is read by nobody.
        """
        with self._context.guarded("the upload of frames"):
            for place, frame in enumerate(frames):
                self._frames[place] = frame
            cuda.memcpy_htod_async(self._memory.frames, self._frames[: len(frames)], self._stream)

    def gate(self, index: Index) -> Scores:
        """See :meth:`engines.backend.Slot.gate`."""
        return self._score("gate", index)

    def classify(self, index: Index) -> Scores:
        """See :meth:`engines.backend.Slot.classify`."""
        return self._score("classifier", index)

    def segment(self, class_number: int, index: Index, threshold: float) -> Iterator[Mask]:
        """See :meth:`engines.backend.Slot.segment`."""
        for chunk, masks in self._run(self._segmenters[class_number], index, threshold):
            yield from masks[: chunk.count]

    def _score(self, key: str, index: Index) -> Scores:
        scores = self._scores[key]
        for chunk, found in self._run(key, index):
            scores[chunk.start : chunk.start + chunk.count] = found[: chunk.count]
        return scores[: len(index)]

    def _run(self, key: str, index: Index, threshold: float = 0.5) -> Iterator[tuple[Chunk, NDArray[Any]]]:
        """Run a stage on the frames at ``index``; yields every chunk with its output, in order.

        An output is the caller's until the next one is asked for.
        """
        engines = self._engines[key]
        launched: deque[tuple[Chunk, BoundEngine, Turn]] = deque()
        for chunk in plan_chunks(len(index), tuple(engines)):
            if len(launched) == TURNS:
                yield self._finished(*launched.popleft())
            engine = engines[chunk.batch_size]
            launched.append((chunk, engine, self._launch(engine, index, chunk, threshold)))
        while launched:
            yield self._finished(*launched.popleft())

    def _launch(self, engine: BoundEngine, index: Index, chunk: Chunk, threshold: float) -> Turn:
        number = self._next_turn
        turn = self._turns[number]
        with self._context.guarded(engine.key):
            # Padding repeats a frame that is there: the engine must find one behind every entry.
            turn.index[: engine.batch_size] = index[chunk.start]
            turn.index[: chunk.count] = index[chunk.start : chunk.start + chunk.count]
            turn.threshold[0] = threshold
            if engine.graphs:
                engine.graphs[number].launch(self._stream.handle)
            else:
                self._enqueue(engine, turn)
            turn.done.record(self._stream)
        self._next_turn = (number + 1) % TURNS
        return turn

    def _enqueue(self, engine: BoundEngine, turn: Turn) -> None:
        """What a run is: upload of index and threshold, execution, download of the output."""
        cuda.memcpy_htod_async(self._memory.index, turn.index[: engine.batch_size], self._stream)
        if engine.takes_threshold:
            cuda.memcpy_htod_async(self._memory.threshold, turn.threshold, self._stream)
        if not engine.context.execute_async_v3(self._stream.handle):
            told = shared_logger(self._library).take()
            raise EnqueueError(told[0] if told else "TensorRT does not say why")
        cuda.memcpy_dtoh_async(turn.output[: engine.output_bytes], self._memory.output, self._stream)

    def _finished(self, chunk: Chunk, engine: BoundEngine, turn: Turn) -> tuple[Chunk, NDArray[Any]]:
        with self._context.guarded(engine.key):
            turn.done.synchronize()
        output = turn.output[: engine.output_bytes].view(engine.output_type)
        return chunk, output.reshape(engine.output_shape)

    # ------------------------------------------------------------------ opening and closing

    def _bind(self, plan: Plan, profile: int, batch_size: int, definition: CascadeDefinition) -> BoundEngine:
        """An execution context for one profile, with shapes and addresses that stay as they are."""
        logger = shared_logger(self._library)
        logger.take()
        what = f"{plan.file.path}: cannot be opened for batches of {batch_size}"
        strategy = self._library.ExecutionContextAllocationStrategy.USER_MANAGED
        context = plan.engine.create_execution_context(strategy)
        if context is None:
            raise refused(what, logger.take())
        shape = output_shape(plan.stage, definition, batch_size)
        memory = self._memory
        addresses = {"frames": memory.frames, "index": memory.index, plan.output: memory.output}
        if plan.stage.kind == "segmenter":
            addresses["threshold"] = memory.threshold
        if not context.set_optimization_profile_async(profile, self._stream.handle):
            raise refused(what, logger.take())
        # Switching the profile may copy, and nothing else is ordered behind that.
        self._stream.synchronize()
        context.set_device_memory(memory.activations, memory.activation_bytes)
        taken = [
            context.set_input_shape("frames", self._frames.shape),
            context.set_input_shape("index", (batch_size,)),
            *(context.set_tensor_address(name, address) for name, address in addresses.items()),
        ]
        missing = context.infer_shapes()
        if not all(taken) or missing:
            raise refused(what, logger.take())
        found = tuple(context.get_tensor_shape(plan.output))
        if found != shape:
            raise EngineError(f"{what}: its output is {list(found)}, not {list(shape)}")
        return BoundEngine(
            key=plan.stage.key,
            context=context,
            batch_size=batch_size,
            takes_threshold=plan.stage.kind == "segmenter",
            output_shape=shape,
            output_type=plan.output_type,
            output_bytes=_output_bytes(plan, definition, batch_size),
        )

    def _prepare(self, plan: Plan, engine: BoundEngine) -> None:
        """Run once, so that no run allocates later on, and record the run for every turn where that can be done."""
        try:
            self._enqueue(engine, self._turns[0])
            self._stream.synchronize()
        except EnqueueError as error:
            raise refused(f"{plan.file.path}: does not run in batches of {engine.batch_size}", [str(error)]) from None
        recorded = ExitStack()
        try:
            for turn in self._turns:
                work = captured(self._stream.handle, partial(self._enqueue, engine, turn))
                engine.graphs.append(recorded.enter_context(work))
        except CaptureRefusedError as error:
            engine.refusal = first_line(error)
            engine.graphs.clear()
            recorded.close()
        self._graphs.enter_context(recorded)

    def _let_go(self) -> None:
        """Wait for what runs, and drop everything that must be gone before the memory is freed."""
        if self._stream is not None:
            # On a lost device nothing runs any more.
            with suppress(cuda.Error):
                self._stream.synchronize()
        self._graphs.close()
        self._engines.clear()
        self._turns.clear()
        self._stream = None


@dataclass(frozen=True, slots=True)
class _DeviceMemory:
    """Addresses on the device."""

    frames: int
    index: int
    threshold: int
    output: int
    activations: int
    activation_bytes: int


def _output_bytes(plan: Plan, definition: CascadeDefinition, batch_size: int) -> int:
    shape = output_shape(plan.stage, definition, batch_size)
    return int(np.prod(shape)) * np.dtype(plan.output_type).itemsize
