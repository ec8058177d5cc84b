"""Reading a stage's ONNX graph into OpenVINO and fixing its batch size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import openvino as ov

from engines.backend import output_shape
from engines.definition import CascadeDefinition, Stage
from engines.errors import EngineError

_INPUTS = {"frames": "u8", "index": "i64", "threshold": "f32"}
_OUTPUT = {"gate": ("scores", "f32"), "classifier": ("scores", "f32"), "segmenter": ("masks", "u8")}
"""Names and element types of a stage's inputs and of its output, as OpenVINO calls them."""

_NO_MODEL = ("Model can't be parsed", "Unable to read the model")
"""How OpenVINO says that a file is damaged or something else; a model with operations that it lacks is not."""


def read_stage(core: ov.Core, stage: Stage, definition: CascadeDefinition, batch_size: int) -> Any:
    """The stage as an ``ov.Model`` with every size fixed, frames and index both at ``batch_size``.

    The graph is taken as it is, its selection by index included, although the slot has gathered the frames already:
    for a batch of one the Gather copies one frame, and graphs without it were not faster.

    Raises :class:`EngineError` where the graph cannot be read or is not one of this stage.
    """
    try:
        model = core.read_model(stage.model)
    except RuntimeError as error:
        told = first_line(error)
        if any(sign in told for sign in _NO_MODEL):
            told += ": the file is no valid ONNX model, take it from where the cascade came from"
        raise EngineError(f"{stage.model}: {stage.key}: not a usable model: {told}") from None
    try:
        inputs = {port.get_any_name(): port.get_element_type().to_string() for port in model.inputs}
        wanted = {name: kind for name, kind in _INPUTS.items() if name != "threshold" or stage.kind == "segmenter"}
        if inputs != wanted:
            raise EngineError(f"{stage.model}: {stage.key}: inputs are {_listed(inputs)}, expected {_listed(wanted)}")
        shapes = {"frames": [batch_size, definition.input.height, definition.input.width], "index": [batch_size]}
        if stage.kind == "segmenter":
            shapes["threshold"] = [1]
        model.reshape({name: ov.PartialShape(shape) for name, shape in shapes.items()})
        name, wanted_kind = _OUTPUT[stage.kind]
        output = model.output(name)
        kind, shape = output.get_element_type().to_string(), list(output.get_shape())
    except RuntimeError as error:
        raise EngineError(f"{stage.model}: {stage.key}: not a usable model: {first_line(error)}") from None
    expected = list(output_shape(stage, definition, batch_size))
    if (kind, shape) != (wanted_kind, expected):
        raise EngineError(
            f"{stage.model}: {stage.key}: output {name} is {kind} {shape}, expected {wanted_kind} {expected}"
        )
    return model


def _listed(types: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {types[name]}" for name in sorted(types))


def first_line(error: Exception) -> str:
    """OpenVINO's own message without the places in its source that come before and after it.

    Some begin with a heading that ends on a colon and says nothing; the line behind it is what was meant.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from", "Check '", "While validating"))]
    meant = [line for line in told if not line.endswith(":")]
    return (meant or told or lines or [type(error).__name__])[0]
