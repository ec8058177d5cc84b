"""Reading a stage's ONNX graph into OpenVINO and fixing its batch size."""

from __future__ import annotations

from typing import Any

import openvino as ov

from engines.definition import CascadeDefinition, Stage
from engines.errors import EngineError

_OUTPUT = {"gate": "scores", "classifier": "scores", "segmenter": "masks"}


def read_stage(core: ov.Core, stage: Stage, definition: CascadeDefinition, batch_size: int) -> Any:
    """The stage as an ``ov.Model`` with every size fixed, frames and index both at ``batch_size``.

    The graph is taken as it is, its selection by index included, although the slot has gathered the frames already:
    for a batch of one the Gather copies one frame, and graphs without it were not faster.

    Raises :class:`EngineError` where the graph cannot be read or is not one of this stage.
    """
    try:
        model = core.read_model(stage.model)
        names = {port.get_any_name() for port in model.inputs}
        wanted = {"frames", "index"} | ({"threshold"} if stage.kind == "segmenter" else set())
        if names != wanted:
            raise EngineError(f"{stage.model}: {stage.key}: inputs are {sorted(names)}, expected {sorted(wanted)}")
        shapes = {"frames": [batch_size, definition.input.height, definition.input.width], "index": [batch_size]}
        if stage.kind == "segmenter":
            shapes["threshold"] = [1]
        model.reshape({name: ov.PartialShape(shape) for name, shape in shapes.items()})
        output = model.output(_OUTPUT[stage.kind])
        shape = list(output.get_shape())
    except RuntimeError as error:
        raise EngineError(f"{stage.model}: {stage.key}: not a usable model: {first_line(error)}") from None
    expected = output_shape(stage, definition, batch_size)
    if shape != list(expected):
        raise EngineError(f"{stage.model}: {stage.key}: output is {shape}, expected {list(expected)}")
    return model


def output_shape(stage: Stage, definition: CascadeDefinition, batch_size: int) -> tuple[int, ...]:
    """Shape of the stage's output: scores ``[n]``, ``[n, classes]``, or transposed masks ``[n, width, height]``."""
    if stage.kind == "gate":
        return (batch_size,)
    if stage.kind == "classifier":
        return (batch_size, len(definition.classes))
    return (batch_size, definition.input.width, definition.input.height)


def first_line(error: Exception) -> str:
    """OpenVINO's own message without the places in its source that come before and after it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from", "Check '", "While validating"))]
    return (told or lines or [type(error).__name__])[0]
