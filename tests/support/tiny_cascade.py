"""A cascade of hand-built graphs whose answers can be worked out on paper, small enough for contract tests.

Clean steel has the grey value 128. A defect of class k is a patch of the grey value ``GREY[k]``; the segmenter of k
marks what lies within ``BAND`` of it, the classifier gives k a score above 0.5 where there is one such pixel, and the
gate passes a frame that departs from 128 by more than 40 anywhere. Noise of a few grey values changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

from engines.images import Frame
from engines.recording import RecordedFrame, write_recording
from engines.rle import Mask

HEIGHT, WIDTH = 64, 160
CLEAN = 128
GREY = {1: 20, 2: 60, 3: 200, 4: 240}
BAND = 15
NAMES = {1: "pits", 2: "marks", 3: "scratches", 4: "patches"}

Patch = tuple[int, int, int, int]
"""x, y, width and height in frame pixels."""


def frame_with(patches: Mapping[int, Sequence[Patch]] | None = None, height: int = HEIGHT, width: int = WIDTH) -> Frame:
    """Clean steel, uint8 ``[height, width]``, with patches by class."""
    frame = np.full((height, width), CLEAN, np.uint8)
    for class_id, places in (patches or {}).items():
        for x, y, w, h in places:
            frame[y : y + h, x : x + w] = GREY[class_id]
    return frame


def gate_score(frame: Frame) -> float:
    """What the gate says of a frame."""
    return _sigmoid(0.1 * (float(np.abs(frame.astype(float) - CLEAN).max()) - 40))


def class_score(frame: Frame, class_id: int) -> float:
    """What the classifier says of a frame."""
    return _sigmoid(0.5 * (BAND - float(np.abs(frame.astype(float) - GREY[class_id]).min())))


def mask_of(frame: Frame, class_id: int, threshold: float = 0.5) -> Mask:
    """What the segmenter says of a frame: uint8 0/1 ``[height, width]``."""
    margin = math.log(threshold / (1 - threshold)) / 0.5
    return (BAND - np.abs(frame.astype(float) - GREY[class_id]) > margin).astype(np.uint8)


def write_tiny_cascade(
    folder: Path, *, name: str = "tiny", height: int = HEIGHT, width: int = WIDTH, recording: bool = True
) -> Path:
    """Write the cascade with a recording of 16 frames, one in two defective, into ``folder`` and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    _save(folder / "gate.onnx", gate_graph(height, width))
    _save(folder / "classifier.onnx", classifier_graph(height, width))
    for class_id in GREY:
        _save(folder / f"segmenter-{class_id}.onnx", segmenter_graph(class_id, height, width))
    definition = {
        "schema": "millwatch.cascade/1",
        "name": name,
        "version": "1",
        "input": {"height": height, "width": width},
        "gate": {"model": "gate.onnx", "threshold": 0.5},
        "classifier": {"model": "classifier.onnx"},
        "classes": [
            {
                "id": class_id,
                "name": NAMES[class_id],
                "model": f"segmenter-{class_id}.onnx",
                "threshold": 0.5,
                "mask_threshold": 0.5,
                "min_area_px": 10,
            }
            for class_id in GREY
        ],
        "provenance": {"made_by": "tests.support.tiny_cascade"},
    }
    if recording:
        definition["recording"] = "recording.parquet"
        write_recording(folder / "recording.parquet", recorded_frames(height, width))
    (folder / "cascade.yaml").write_text(yaml.safe_dump(definition, sort_keys=False), encoding="utf-8")
    return folder


def recorded_frames(height: int = HEIGHT, width: int = WIDTH, count: int = 16) -> list[RecordedFrame]:
    """Recorded PNG frames of one camera, 10 a second; every other one has a patch of the next class."""
    recorded = []
    for number in range(count):
        class_id = number // 2 % 4 + 1
        patches = {class_id: [(8 + 4 * number, 8, 40, 30)]} if number % 2 else {}
        image = cv2.imencode(".png", frame_with(patches, height, width))[1].tobytes()
        headers = (("frame-id", f"f-{number:06d}".encode()), ("content-type", b"image/png"))
        recorded.append(RecordedFrame(b"cam-1", image, headers, 1_795_000_000_000 + 100 * number, 0, number))
    return recorded


def gate_graph(height: int, width: int) -> onnx.ModelProto:
    """Sigmoid of the largest departure from clean steel."""
    nodes = [
        helper.make_node("Sub", ["chosen", "clean"], ["difference"]),
        helper.make_node("Abs", ["difference"], ["departure"]),
        helper.make_node("ReduceMax", ["departure", "pixels"], ["largest"], keepdims=0),
        helper.make_node("Sub", ["largest", "limit"], ["over"]),
        helper.make_node("Mul", ["over", "slope"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["scores"]),
    ]
    constants = {"clean": CLEAN, "limit": 40, "slope": 0.1, "pixels": np.array([1, 2], np.int64)}
    return _graph("gate", nodes, constants, ["batch"], TensorProto.FLOAT, height, width)


def classifier_graph(height: int, width: int) -> onnx.ModelProto:
    """Sigmoid, per class, of the pixel nearest to the class's grey value."""
    nodes = [
        helper.make_node("Unsqueeze", ["chosen", "one"], ["plane"]),
        helper.make_node("Sub", ["plane", "greys"], ["difference"]),
        helper.make_node("Abs", ["difference"], ["departure"]),
        helper.make_node("ReduceMin", ["departure", "pixels"], ["nearest"], keepdims=0),
        helper.make_node("Sub", ["band", "nearest"], ["inside"]),
        helper.make_node("Mul", ["inside", "slope"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["scores"]),
    ]
    constants = {
        "one": np.array([1], np.int64),
        "greys": np.array(list(GREY.values()), np.float32).reshape(1, -1, 1, 1),
        "pixels": np.array([2, 3], np.int64),
        "band": BAND,
        "slope": 0.5,
    }
    return _graph("classifier", nodes, constants, ["batch", len(GREY)], TensorProto.FLOAT, height, width)


def segmenter_graph(class_id: int, height: int, width: int, shift: float = 0.0) -> onnx.ModelProto:
    """The pixels near the class's grey value; ``shift`` moves that value, for a model that is not what it was."""
    nodes = [
        helper.make_node("Sub", ["chosen", "grey"], ["difference"]),
        helper.make_node("Abs", ["difference"], ["departure"]),
        helper.make_node("Sub", ["band", "departure"], ["inside"]),
        helper.make_node("Mul", ["inside", "slope"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["probability"]),
        helper.make_node("Transpose", ["probability"], ["transposed"], perm=[0, 2, 1]),
        helper.make_node("Greater", ["transposed", "threshold"], ["marked"]),
        helper.make_node("Cast", ["marked"], ["masks"], to=TensorProto.UINT8),
    ]
    constants = {"grey": GREY[class_id] + shift, "band": BAND, "slope": 0.5}
    return _graph("segmenter", nodes, constants, ["batch", width, height], TensorProto.UINT8, height, width)


def _graph(
    name: str,
    nodes: list[onnx.NodeProto],
    constants: Mapping[str, float | np.ndarray],
    shape: list[str | int],
    output_type: int,
    height: int,
    width: int,
) -> onnx.ModelProto:
    inputs = [
        helper.make_tensor_value_info("frames", TensorProto.UINT8, ["frames", height, width]),
        helper.make_tensor_value_info("index", TensorProto.INT64, ["batch"]),
    ]
    output = "scores"
    if name == "segmenter":
        inputs.append(helper.make_tensor_value_info("threshold", TensorProto.FLOAT, [1]))
        output = "masks"
    selection = [
        helper.make_node("Cast", ["frames"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["values", "index"], ["chosen"], axis=0),
    ]
    initialisers = [
        numpy_helper.from_array(value if isinstance(value, np.ndarray) else np.float32(value), key)
        for key, value in constants.items()
    ]
    outputs = [helper.make_tensor_value_info(output, output_type, shape)]
    graph = helper.make_graph([*selection, *nodes], name, inputs, outputs, initialisers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def _save(path: Path, model: onnx.ModelProto) -> None:
    path.write_bytes(model.SerializeToString())


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))
