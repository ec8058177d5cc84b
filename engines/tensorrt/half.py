"""A stage's graph in half precision, derived from its float32 graph by one mechanical step.

TensorRT computes a network in the types that its graph has, so half precision has to be written into the graph. The
rule: every node from which a convolution or a matrix product can be reached is computed in float16, from the Cast of
the frames on. They are where the time goes. What follows the last of them (pooling of scores, Sigmoid, thresholds)
costs next to nothing and stays in float32, and all inputs and outputs keep their types.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineError

if TYPE_CHECKING:
    import onnx

CONVOLUTIONS: Final = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})

SCALING: Final = frozenset({"BatchNormalization", "Div", "InstanceNormalization", "Mul"})
"""Operators with a parameter that silences a channel, or divides by zero, where it is rounded to 0."""

LARGEST: Final = 65504.0
"""The largest finite float16 (IEEE 754 binary16)."""


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with everything before and in its convolutions in float16; ``model`` stays as it is.

    Raises :class:`EngineError` with part of a sentence that names the node or the initialiser: where there is nothing
    to convert, where a value cannot be held in half precision, where an operator has no half precision, and where the
    result would not be a valid graph.
    """
    import onnx

    derived = onnx.ModelProto()
    derived.CopyFrom(model)
    _lift_constants(derived.graph)
    _refuse_subgraphs(derived.graph)
    chosen = _before_convolutions(derived.graph)
    if not chosen:
        raise EngineError("there is no convolution in it that half precision would make faster")
    _retype(derived, chosen)
    # Types of what lies between the nodes are no longer what the exporter wrote down.
    derived.graph.ClearField("value_info")
    try:
        onnx.checker.check_model(derived)
        onnx.shape_inference.infer_shapes(derived, check_type=True, strict_mode=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise EngineError(f"it has no valid graph in half precision: {' '.join(str(error).split())}") from None
    return derived


def _lift_constants(graph: onnx.GraphProto) -> None:
    """Turn Constant nodes into initialisers, which can be given to each of their users in the type that it takes."""
    import onnx

    kept = []
    for node in graph.node:
        if node.op_type != "Constant" or node.domain not in {"", "ai.onnx"}:
            kept.append(node)
            continue
        (attribute,) = node.attribute
        value = onnx.helper.get_attribute_value(attribute)
        if attribute.type == onnx.AttributeProto.TENSOR:
            tensor = onnx.TensorProto()
            tensor.CopyFrom(value)
            tensor.name = node.output[0]
        elif attribute.type in {onnx.AttributeProto.FLOAT, onnx.AttributeProto.FLOATS}:
            tensor = onnx.numpy_helper.from_array(np.array(value, np.float32), node.output[0])
        elif attribute.type in {onnx.AttributeProto.INT, onnx.AttributeProto.INTS}:
            tensor = onnx.numpy_helper.from_array(np.array(value, np.int64), node.output[0])
        else:
            kept.append(node)
            continue
        graph.initializer.append(tensor)
    _replace_nodes(graph, kept)


def _refuse_subgraphs(graph: onnx.GraphProto) -> None:
    import onnx

    for node in graph.node:
        if any(
            attribute.type in {onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS} for attribute in node.attribute
        ):
            raise EngineError(f"{_named(node)} holds a graph of its own, which cannot be converted")


def _before_convolutions(graph: onnx.GraphProto) -> frozenset[int]:
    """Numbers of the nodes from which a convolution can be reached, the convolutions among them."""
    producers = {name: number for number, node in enumerate(graph.node) for name in node.output if name}
    found: set[int] = set()
    waiting = [number for number, node in enumerate(graph.node) if node.op_type in CONVOLUTIONS]
    while waiting:
        number = waiting.pop()
        if number not in found:
            found.add(number)
            waiting += [producers[name] for name in graph.node[number].input if name in producers]
    return frozenset(found)


def _retype(model: onnx.ModelProto, chosen: frozenset[int]) -> None:
    """Give the chosen nodes half inputs, half parameters and half outputs, with a Cast wherever they border on others.

    Nodes that are not chosen are not touched: a half tensor that they read, or that leaves the graph, gets a name of
    its own, and a Cast makes from it the float32 tensor that they know.
    """
    import onnx

    graph = model.graph
    floats = _float_tensors(model)
    parameters = {item.name: item for item in graph.initializer}
    given = {item.name for item in graph.input} - parameters.keys()
    produced = {name for number in chosen for name in graph.node[number].output}
    wanted = {item.name for item in graph.output}
    wanted.update(name for number, node in enumerate(graph.node) if number not in chosen for name in node.input)
    taken = {*floats, *parameters, *given, *(name for node in graph.node for name in (*node.input, *node.output))}
    halves: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    for number, node in enumerate(graph.node):
        if number not in chosen:
            nodes.append(node)
            continue
        schema = _schema(node, model)
        for place, name in enumerate(node.input):
            if name not in floats:
                continue
            if not _takes_half(schema.inputs, place):
                if name in produced:
                    raise EngineError(f"{_named(node)} takes float32 only, and is given what is computed in half")
                continue
            if name in parameters:
                # Rounded anew for each of its users, since one of them may bear what another does not.
                values = _rounded(name, onnx.numpy_helper.to_array(parameters[name]), node)
            if name not in halves and name not in produced:
                halves[name] = _unused(f"{name}_half", taken)
                if name in parameters:
                    graph.initializer.append(onnx.numpy_helper.from_array(values, halves[name]))
                else:
                    nodes.append(onnx.helper.make_node("Cast", [name], [halves[name]], to=onnx.TensorProto.FLOAT16))
            node.input[place] = halves.get(name, name)
        nodes.append(node)
        for place, name in enumerate(node.output):
            if name not in floats:
                continue
            if not _takes_half(schema.outputs, place):
                raise EngineError(f"{_named(node)} computes in float32 only")
            if name in wanted:
                halves[name] = _unused(f"{name}_half", taken)
                nodes.append(onnx.helper.make_node("Cast", [halves[name]], [name], to=onnx.TensorProto.FLOAT))
                node.output[place] = halves[name]
        for attribute in node.attribute:
            if attribute.name in {"dtype", "to"} and attribute.i == onnx.TensorProto.FLOAT:
                attribute.i = onnx.TensorProto.FLOAT16
    _replace_nodes(graph, nodes)
    used = {name for node in nodes for name in node.input} | {item.name for item in graph.output}
    kept = [item for item in graph.initializer if item.name in used]
    graph.ClearField("initializer")
    graph.initializer.extend(kept)


def _rounded(name: str, values: NDArray[Any], node: onnx.NodeProto) -> NDArray[np.float16]:
    """An initialiser's values, float32 of any shape, rounded to float16."""
    finite = np.isfinite(values)
    largest = float(np.abs(values[finite]).max(initial=0.0))
    if largest > LARGEST:
        raise EngineError(f"the initialiser {name} has the value {largest:g}, half precision ends at {LARGEST:g}")
    halves = values.astype(np.float16)
    lost = (halves == 0) & (values != 0)
    if lost.any() and (node.op_type in SCALING or not halves.any()):
        smallest = float(np.abs(values[lost]).min())
        raise EngineError(f"the initialiser {name} has the value {smallest:g}, which is 0 in half precision")
    return halves


def _float_tensors(model: onnx.ModelProto) -> frozenset[str]:
    """Names of all float32 tensors of the graph: inputs, outputs, initialisers, and what lies between."""
    import onnx

    try:
        graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    except onnx.shape_inference.InferenceError as error:
        raise EngineError(f"its types cannot be told: {' '.join(str(error).split())}") from None
    described = (*graph.input, *graph.output, *graph.value_info)
    names = [item.name for item in described if item.type.tensor_type.elem_type == onnx.TensorProto.FLOAT]
    names += [item.name for item in graph.initializer if item.data_type == onnx.TensorProto.FLOAT]
    return frozenset(names)


def _schema(node: onnx.NodeProto, model: onnx.ModelProto) -> Any:
    import onnx

    versions = {item.domain: item.version for item in model.opset_import}
    try:
        return onnx.defs.get_schema(node.op_type, versions.get(node.domain, 1), node.domain)
    except onnx.defs.SchemaError:
        raise EngineError(f"{_named(node)} is no operator of ONNX, so nothing is known of its precisions") from None


def _takes_half(formal: Any, place: int) -> bool:
    """Whether an operator's input or output at ``place`` may be float16. The last one stands for all that follow."""
    return "tensor(float16)" in formal[min(place, len(formal) - 1)].types


def _unused(name: str, taken: set[str]) -> str:
    """``name``, or the first of ``name_2``, ``name_3`` ... that is not taken; taken from now on."""
    candidates: Iterator[str] = (name if number == 1 else f"{name}_{number}" for number in range(1, len(taken) + 2))
    free = next(candidate for candidate in candidates if candidate not in taken)
    taken.add(free)
    return free


def _replace_nodes(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> None:
    kept = list(nodes)
    graph.ClearField("node")
    graph.node.extend(kept)


def _named(node: onnx.NodeProto) -> str:
    return f"the {node.op_type} {node.name or node.output[0]}"
