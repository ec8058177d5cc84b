"""Reading a stage's ONNX graph, and whether it is one of this stage: names and types of what goes in and out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from engines.definition import CascadeDefinition, Stage
from engines.errors import DeviceError, EngineError

if TYPE_CHECKING:
    import onnx

INPUTS: Final = {"frames": "UINT8", "index": "INT64", "threshold": "FLOAT"}
OUTPUT: Final = {"gate": ("scores", "FLOAT"), "classifier": ("scores", "FLOAT"), "segmenter": ("masks", "UINT8")}
"""Names and element types of a stage's inputs and of its output, as ONNX calls them."""


def read_graph(stage: Stage, definition: CascadeDefinition) -> onnx.ModelProto:
    """The stage's graph, with the inputs and the output that a stage of its kind has.

    Raises :class:`EngineError` where it cannot be read or is not one of this stage, and :class:`DeviceError` where the
    package that reads it is not here.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise DeviceError(f"building engines for a GPU needs the package onnx ({error}): pip install onnx") from None
    try:
        model = onnx.load(stage.model)
        onnx.checker.check_model(model)
    except (OSError, DecodeError, ValueError, onnx.checker.ValidationError) as error:
        raise EngineError(f"{stage.model}: {stage.key}: not a usable model: {' '.join(str(error).split())}") from None
    given = {item.name for item in model.graph.initializer}
    found = _types(item for item in model.graph.input if item.name not in given)
    wanted = {name: kind for name, kind in INPUTS.items() if name != "threshold" or stage.kind == "segmenter"}
    if found != wanted:
        raise EngineError(f"{stage.model}: {stage.key}: inputs are {_listed(found)}, expected {_listed(wanted)}")
    found, wanted = _types(model.graph.output), dict([OUTPUT[stage.kind]])
    if found != wanted:
        raise EngineError(f"{stage.model}: {stage.key}: outputs are {_listed(found)}, expected {_listed(wanted)}")
    sides = {"height": definition.input.height, "width": definition.input.width}
    (frames,) = (item for item in model.graph.input if item.name == "frames")
    shape = frames.type.tensor_type.shape.dim
    if len(shape) != 3 or any(
        dimension.HasField("dim_value") and dimension.dim_value != side
        for dimension, side in zip(shape[1:], sides.values(), strict=True)
    ):
        told = [dimension.dim_value or dimension.dim_param or "?" for dimension in shape]
        raise EngineError(
            f"{stage.model}: {stage.key}: frames are {told}, expected [frames, {sides['height']}, {sides['width']}]"
        )
    return model


def _types(ports: Iterable[onnx.ValueInfoProto]) -> dict[str, str]:
    import onnx

    return {item.name: onnx.TensorProto.DataType.Name(item.type.tensor_type.elem_type) for item in ports}


def _listed(types: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {types[name].lower()}" for name in sorted(types))
