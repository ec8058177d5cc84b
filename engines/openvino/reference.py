"""The reference that every engine is compared with: float32 on the processor, one frame at a time."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from engines.backend import Scores
from engines.definition import CascadeDefinition, Stage
from engines.errors import EngineError
from engines.images import Frame
from engines.openvino.compiler import DEVICE
from engines.openvino.core import shared_core
from engines.openvino.models import first_line, read_stage
from engines.rle import Mask


class ReferenceStage:
    """One stage straight from its ONNX graph in OpenVINO's accuracy mode; raises :class:`EngineError` if it cannot be.

    It shares neither files, nor batches, nor buffers with the engines. That it computes what the graph says is tested
    against ONNX Runtime.
    """

    def __init__(self, stage: Stage, definition: CascadeDefinition) -> None:
        core = shared_core()
        model = read_stage(core, stage, definition, batch_size=1)
        config = {"INFERENCE_PRECISION_HINT": "f32", "EXECUTION_MODE_HINT": "ACCURACY"}
        try:
            self._request: Any = core.compile_model(model, DEVICE, config).create_infer_request()
        except RuntimeError as error:
            raise EngineError(f"{stage.model}: {stage.key}: cannot be compiled: {first_line(error)}") from None

    def scores(self, frame: Frame) -> Scores:
        """The gate's score float32 ``[]`` or the classifier's ``[classes]`` of a frame uint8 ``[height, width]``."""
        return cast(Scores, self._run({"frames": frame[np.newaxis], "index": np.zeros(1, np.int64)}))

    def mask(self, frame: Frame, threshold: float) -> Mask:
        """The segmenter's mask uint8 0/1 ``[width, height]`` of a frame uint8 ``[height, width]``."""
        inputs = {
            "frames": frame[np.newaxis],
            "index": np.zeros(1, np.int64),
            "threshold": np.full(1, threshold, np.float32),
        }
        return cast(Mask, self._run(inputs))

    def _run(self, inputs: dict[str, Any]) -> Any:
        self._request.infer(inputs)
        return self._request.get_output_tensor().data[0].copy()
