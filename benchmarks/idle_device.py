"""A device that costs nothing: what is left of a frame's time when inference takes none."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from daemon.bench.bare import inspect_in_pipeline
from daemon.bench.result import Measured
from daemon.decoding import frame_decoder
from daemon.frames import Frame
from daemon.inspector import cascade_overrides, image_limits
from daemon.settings import Settings
from engines import images, rle
from engines.backend import DeviceInfo, Index, Runtime, Scores, Slot
from engines.cascade import Cascade
from engines.definition import CascadeDefinition, load_definition
from engines.results import EngineIdentity
from engines.rle import Mask
from engines.settings import effective_settings

SLOTS = 3

MASKS = 200
"""Masks whose run lengths are timed."""


class IdleSlot:
    """Implements :class:`engines.backend.Slot`: takes the frames over as a GPU's slot would, and finds them clean."""

    def __init__(self, definition: CascadeDefinition, max_frames: int) -> None:
        self._classes = len(definition.classes)
        self._frames = np.zeros((max_frames, definition.input.height, definition.input.width), np.uint8)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def load(self, frames: Sequence[images.Frame]) -> None:
        """Copies the frames, as into memory that a GPU reads from."""
        for place, frame in enumerate(frames):
            self._frames[place] = frame

    def gate(self, index: Index) -> Scores:
        """Nothing on any frame."""
        return np.zeros(len(index), np.float32)

    def classify(self, index: Index) -> Scores:
        """No class on any frame."""
        return np.zeros((len(index), self._classes), np.float32)

    def segment(self, class_number: int, index: Index, threshold: float) -> Iterator[Mask]:
        """Empty masks."""
        del class_number, threshold
        height, width = self._frames.shape[1:]
        yield from (np.zeros((width, height), np.uint8) for _ in index)


class IdleRuntime:
    """Implements :class:`engines.backend.Runtime` with slots that do nothing."""

    def __init__(self, definition: CascadeDefinition, max_frames: int) -> None:
        self.device = DeviceInfo("openvino", "none", "idle", "")
        self.max_frames = max_frames
        self.slots: Sequence[Slot] = tuple(IdleSlot(definition, max_frames) for _ in range(SLOTS))

    def probe(self) -> None:
        """It always answers."""

    def close(self) -> None:
        """It holds nothing."""


def measure_idle_device(settings: Settings, frames: Sequence[Frame]) -> Measured:
    """Frames from memory through the service's pipeline, decoded for real and inspected by nothing."""
    definition = load_definition(settings.cascade)
    thresholds = effective_settings(definition, cascade_overrides(settings))
    runtime: Runtime = IdleRuntime(definition, settings.batch.max_frames)
    with Cascade(definition, thresholds, EngineIdentity(definition.name, "", "", "openvino"), runtime) as cascade:
        return inspect_in_pipeline(settings, cascade, frames)


def measure_decoding(settings: Settings, frames: Sequence[Frame]) -> Measured:
    """The decoding of frames from memory, in one thread."""
    decode = frame_decoder(image_limits(settings), require_crc32c=settings.input.require_crc32c)
    return _timed([partial(decode, frame) for frame in frames])


def measure_masks(truth: Path, definition: CascadeDefinition) -> Measured:
    """The run lengths of the true masks in a table ``ImageId,ClassId,EncodedPixels``, as the cascade makes them.

    ``frames`` of the result counts masks.
    """
    height, width = definition.input.height, definition.input.width
    with truth.open(encoding="utf-8", newline="") as file:
        told = [row["EncodedPixels"] for row in csv.DictReader(file) if row["EncodedPixels"]]
    masks = [np.ascontiguousarray(rle.decode(text, height, width).T) for text in islice(told, MASKS)]

    def encode(mask: Mask) -> None:
        region = rle.whole(mask)
        if region is not None:
            rle.runs_to_text(region.runs)

    return _timed([partial(encode, mask) for mask in masks])


def _timed(calls: Sequence[Callable[[], object]]) -> Measured:
    calls[0]()
    started, cpu_started = time.perf_counter(), time.process_time()
    for call in calls:
        call()
    return Measured(len(calls), time.perf_counter() - started, time.process_time() - cpu_started)
