"""Running TensorRT engines: slots side by side on one GPU, all memory taken when they are opened."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pycuda.driver as cuda
import structlog

from engines.backend import DeviceInfo, EngineFile, Slot
from engines.definition import CascadeDefinition
from engines.errors import DeviceError, EngineError
from engines.tensorrt.context import enter, first_line, leave, primary_context
from engines.tensorrt.device import CudaDevice
from engines.tensorrt.logger import first_error, shared_logger
from engines.tensorrt.memory import new_stream, on_device, page_locked
from engines.tensorrt.plans import MEMORY_ADVICE, Plan, read_plan
from engines.tensorrt.slot import TensorRTSlot

log = structlog.get_logger(__name__)

PROBE_BYTES = 256


@dataclass(frozen=True, slots=True)
class GraphCapture:
    """Whether a stage at one batch size runs as a CUDA graph; ``refusal`` says why where it does not."""

    stage: str
    batch_size: int
    refusal: str | None


class TensorRTRuntime:
    """Implements :class:`engines.backend.Runtime` on one GPU.

    Every slot has a stream and its own memory, so that one's copies run beside another's kernels. Nothing is allocated
    once this is open. ``captures`` says which engines run as CUDA graphs.
    """

    def __init__(
        self,
        library: Any,
        cuda_device: CudaDevice,
        device: DeviceInfo,
        definition: CascadeDefinition,
        engines: Sequence[EngineFile],
        *,
        slots: int,
        max_frames: int,
    ) -> None:
        """``library`` is the module ``tensorrt``.

        Raises :class:`EngineError` where a file is no engine for this device or cannot hold ``max_frames``, and
        :class:`DeviceError` where memory does not suffice or the device fails.
        """
        self.device = device
        self.max_frames = max_frames
        self.slots: Sequence[Slot] = ()
        self.captures: tuple[GraphCapture, ...] = ()
        self._probe_lock = threading.Lock()
        self._plans: list[Plan] = []
        self._is_closed = False
        self._owned = ExitStack()
        try:
            self._context = self._owned.enter_context(primary_context(cuda_device.ordinal))
            self._open_checked(library, definition, engines, slots, max_frames)
            leave(self._context)
        except BaseException as error:
            # What was begun may use what is dropped now.
            with suppress(cuda.Error):
                cuda.Context.synchronize()
            _forget_frames(error)
            self.slots = ()
            self._owned.close()
            if isinstance(error, cuda.MemoryError):
                raise DeviceError(f"{MEMORY_ADVICE} ({first_line(error)})") from None
            if isinstance(error, cuda.Error):
                raise DeviceError(f"the GPU failed while engines were opened: {first_line(error)}") from None
            raise

    def probe(self) -> None:
        """See :meth:`engines.backend.Runtime.probe`: copies a few bytes to the device and back, in its own stream."""
        with self._probe_lock:
            self._context.push()
            try:
                with self._context.answering():
                    self._probe_bytes[0] += 1
                    cuda.memcpy_htod_async(self._probe_memory, self._probe_bytes[0], self._probe_stream)
                    cuda.memcpy_dtoh_async(self._probe_bytes[1], self._probe_memory, self._probe_stream)
                    self._probe_stream.synchronize()
                if not np.array_equal(self._probe_bytes[0], self._probe_bytes[1]):
                    raise self._context.loses("it does not give back what it was given")
            finally:
                self._context.pop()

    def close(self) -> None:
        """See :meth:`engines.backend.Runtime.close`. A second call does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        self.slots = ()
        try:
            enter(self._context)
        except cuda.Error:
            # A lost device: what was on it is gone with it. PyCUDA would try to free it all the same, and end the
            # process where that fails.
            self._context.abandon()
        self._owned.close()

    def _open_checked(
        self, library: Any, definition: CascadeDefinition, engines: Sequence[EngineFile], slots: int, max_frames: int
    ) -> None:
        try:
            self._open(library, definition, engines, slots, max_frames)
        except EngineError as error:
            # TensorRT refuses everything on a lost device, and an engine is not to blame for that.
            found = self._context.judge("opening engines", error)
            raise found if isinstance(found, DeviceError) else error from None

    def _open(
        self,
        library: Any,
        definition: CascadeDefinition,
        engines: Sequence[EngineFile],
        slots: int,
        max_frames: int,
    ) -> None:
        # Before everything that is TensorRT's or memory, so that it goes last of it.
        self._owned.callback(self._plans.clear)
        logger = shared_logger(library)
        logger.take()
        try:
            runtime = library.Runtime(logger)
        except TypeError:
            # pybind11's answer to a constructor that returned nothing.
            raise DeviceError(f"TensorRT does not start on this GPU: {first_error(logger.take())}") from None
        self._plans += [read_plan(library, runtime, file, definition, max_frames) for file in engines]
        self._probe_bytes = self._owned.enter_context(page_locked((2, PROBE_BYTES), np.uint8))
        self._probe_memory = self._owned.enter_context(on_device(PROBE_BYTES))
        self._probe_stream: Any = new_stream()
        self._owned.callback(self._drop_probe)
        opened = [
            TensorRTSlot(library, self._context, definition, self._plans, max_frames, self._owned) for _ in range(slots)
        ]
        self.captures = tuple(GraphCapture(each.key, each.batch_size, each.refusal) for each in opened[0].engines)
        for capture in self.captures:
            if capture.refusal is not None:
                log.warning(
                    "a stage runs without a CUDA graph",
                    stage=capture.stage,
                    batch_size=capture.batch_size,
                    reason=capture.refusal,
                )
        self.slots = tuple(opened)

    def _drop_probe(self) -> None:
        # A probe that failed may have left work behind.
        with suppress(cuda.Error):
            self._probe_stream.synchronize()
        self._probe_stream = None


def _forget_frames(error: BaseException | None) -> None:
    """The frames of a traceback keep what must be gone before the context is."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__
