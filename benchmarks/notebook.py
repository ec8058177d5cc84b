"""The cascade as a notebook would run it: the same ONNX models in ONNX Runtime, one frame at a time."""

from __future__ import annotations

import time
from collections.abc import Sequence

import cv2
import numpy as np
import onnxruntime as ort

from daemon.bench.result import Measured
from engines import rle
from engines.definition import CascadeDefinition
from engines.settings import CascadeSettings

WARM_UP_FRAMES = 4


class Notebook:
    """One ONNX Runtime session for each stage, on ``threads`` threads.

    ``conditional`` runs a model only where the one before asks for it; otherwise every model runs on every frame, and
    what gate and classifier refuse is dropped afterwards.
    """

    def __init__(
        self, definition: CascadeDefinition, settings: CascadeSettings, threads: int, *, conditional: bool
    ) -> None:
        self._settings = settings
        self._conditional = conditional
        self._size = (definition.input.width, definition.input.height)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._sessions = {
            stage.key: ort.InferenceSession(stage.model, options, providers=["CPUExecutionProvider"])
            for stage in definition.stages
        }
        self._segmenters = [stage.key for stage in definition.stages if stage.kind == "segmenter"]
        self._index = np.zeros(1, np.int64)

    def inspect(self, values: Sequence[bytes]) -> Measured:
        """Inspect encoded images one after the other; the first few, not counted, warm the sessions up."""
        for value in values[:WARM_UP_FRAMES]:
            self.defects(value)
        started, cpu_started = time.perf_counter(), time.process_time()
        for value in values:
            self.defects(value)
        return Measured(len(values), time.perf_counter() - started, time.process_time() - cpu_started)

    def defects(self, value: bytes) -> int:
        """How many defects there are on an encoded image, one per class at most."""
        frame = cv2.imdecode(np.frombuffer(value, np.uint8), cv2.IMREAD_GRAYSCALE)
        if frame is None:
            raise ValueError("not an image")
        if (frame.shape[1], frame.shape[0]) != self._size:
            frame = cv2.resize(frame, self._size, interpolation=cv2.INTER_AREA)
        inputs = {"frames": frame[np.newaxis], "index": self._index}
        passed = bool(self._sessions["gate"].run(None, inputs)[0][0] >= self._settings.gate_threshold)
        if self._conditional and not passed:
            return 0
        scores = self._sessions["classifier"].run(None, inputs)[0][0]
        defects = 0
        for key, score, settings in zip(self._segmenters, scores, self._settings.classes, strict=True):
            carried = passed and bool(score >= settings.threshold)
            if self._conditional and not carried:
                continue
            threshold = np.array([settings.mask_threshold], np.float32)
            mask = self._sessions[key].run(None, {**inputs, "threshold": threshold})[0][0]
            if carried:
                defects += _counts(mask, settings.min_area_px)
        return defects


def _counts(mask: rle.Mask, min_area_px: int) -> bool:
    """Whether a mask uint8 0/1 ``[width, height]`` is large enough for a defect; encodes it, as an event needs it."""
    whole = rle.whole(mask)
    if whole is None or whole.area_px < min_area_px:
        return False
    rle.runs_to_text(whole.runs)
    return True
