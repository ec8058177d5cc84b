"""What a stage's graph asks of a device: multiply-adds, bytes moved and kernels, counted from the graph alone.

Nothing is run. The count assumes what an engine builder does at the least: whatever works element by element joins the
kernel before it, so that its values never go to memory, and a change of shape alone costs nothing. Everything else is a
kernel that reads its inputs and writes its output once.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import onnx
from onnx import numpy_helper, shape_inference

CONVOLUTIONS: Final = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})

VIEWS: Final = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})

ELEMENTWISE: Final = frozenset(
    {
        *("Abs", "Add", "Cast", "Clip", "Div", "Exp", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish"),
        *("LeakyRelu", "Less", "Log", "Max", "Min", "Mul", "Neg", "Pow", "Relu", "Sigmoid", "Sqrt", "Sub", "Tanh"),
    }
)

Engine = Literal["tensor", "vector"]
"""The arithmetic units that a kernel is bound to: tensor cores for dense convolutions and products; the plain ones for
grouped convolutions, which have too few channels in a group to fill a tensor core, and for all else."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel: the operators that it joins, its multiply-adds, and the bytes that it reads and writes."""

    operators: tuple[str, ...]
    engine: Engine
    multiply_adds: int
    bytes_moved: int


@dataclass(frozen=True, slots=True)
class StageWork:
    """One run of a stage on ``batch_size`` frames."""

    batch_size: int
    kernels: tuple[Kernel, ...]

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of all kernels; two operations each."""
        return sum(kernel.multiply_adds for kernel in self.kernels)

    @property
    def bytes_moved(self) -> int:
        """Bytes that all kernels read and write."""
        return sum(kernel.bytes_moved for kernel in self.kernels)


def count_stage(model: onnx.ModelProto, *, batch_size: int, places: int, half: bool) -> StageWork:
    """The work of one run on ``batch_size`` frames out of a buffer of ``places`` frames.

    ``half``: floating-point values take 2 bytes up to the last convolution and 4 behind it, else 4 everywhere. Raises
    ValueError where a shape of the graph cannot be told from those of its inputs.
    """
    graph = _with_shapes(model, batch_size, places).graph
    sizes = _tensor_bytes(graph, half=half)
    consumers = Counter(name for node in graph.node for name in set(node.input))
    consumers.update(port.name for port in graph.output)
    groups: list[_Group] = []
    made_by: dict[str, _Group] = {}
    for node in graph.node:
        joined = next((made_by[name] for name in node.input if name in made_by and consumers[name] == 1), None)
        if joined is None or node.op_type not in ELEMENTWISE | VIEWS:
            joined = _Group()
            groups.append(joined)
        joined.nodes.append(node)
        made_by[node.output[0]] = joined
        # What a kernel has made before its last operator never leaves it.
        for name in node.input:
            if made_by.get(name) is joined:
                del made_by[name]
    shapes = _shapes(graph)
    kernels = (group.kernel(shapes, sizes) for group in groups)
    return StageWork(batch_size, tuple(kernel for kernel in kernels if kernel is not None))


@dataclass(slots=True)
class _Group:
    nodes: list[onnx.NodeProto] = field(default_factory=list)

    def kernel(self, shapes: Mapping[str, Sequence[int]], sizes: Mapping[str, int]) -> Kernel | None:
        """The kernel of these nodes; None where they only change a shape."""
        if all(node.op_type in VIEWS for node in self.nodes):
            return None
        inside = {node.output[0] for node in self.nodes}
        read = {name for node in self.nodes for name in node.input if name and name not in inside}
        if self.nodes[0].op_type == "Gather":
            # Of what it selects from it reads what it selects.
            read.discard(self.nodes[0].input[0])
            read.add(self.nodes[0].output[0])
        dense = any(node.op_type in CONVOLUTIONS and _groups(node) == 1 for node in self.nodes)
        return Kernel(
            operators=tuple(node.op_type for node in self.nodes),
            engine="tensor" if dense else "vector",
            multiply_adds=sum(_multiply_adds(node, shapes) for node in self.nodes),
            bytes_moved=sum(sizes[name] for name in read) + sum(sizes[name] for name in self.nodes[-1].output),
        )


def _multiply_adds(node: onnx.NodeProto, shapes: Mapping[str, Sequence[int]]) -> int:
    """Those of a convolution or product; none for anything else, whose arithmetic hides behind its memory traffic."""
    if node.op_type == "Conv":
        # The weight is [out, in / groups, height, width]: so many multiply-adds for every value that comes out.
        return math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
    if node.op_type == "ConvTranspose":
        return math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])
    if node.op_type in {"Gemm", "MatMul"}:
        transposed = any(item.name == "transA" and item.i for item in node.attribute)
        return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-2 if transposed else -1]
    return 0


def _groups(node: onnx.NodeProto) -> int:
    return next((item.i for item in node.attribute if item.name == "group"), 1)


def _with_shapes(model: onnx.ModelProto, batch_size: int, places: int) -> onnx.ModelProto:
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    first = {"frames": places, "index": batch_size}
    for port in fixed.graph.input:
        if port.name in first:
            port.type.tensor_type.shape.dim[0].dim_value = first[port.name]
    # The outputs name the same free dimension, and a name would stand in the way of its value.
    for port in fixed.graph.output:
        port.type.tensor_type.ClearField("shape")
    return shape_inference.infer_shapes(fixed, strict_mode=True, data_prop=True)


def _shapes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    shapes = {item.name: tuple(item.dims) for item in graph.initializer}
    for info in (*graph.input, *graph.value_info, *graph.output):
        dimensions = info.type.tensor_type.shape.dim
        if not info.type.tensor_type.HasField("shape") or not all(item.HasField("dim_value") for item in dimensions):
            raise ValueError(f"the shape of {info.name} does not follow from those of the inputs")
        shapes[info.name] = tuple(item.dim_value for item in dimensions)
    for node in graph.node:
        if node.op_type == "Constant":
            shapes[node.output[0]] = numpy_helper.to_array(node.attribute[0].t).shape
    return shapes


def _tensor_bytes(graph: onnx.GraphProto, *, half: bool) -> dict[str, int]:
    """Bytes of every tensor, inputs as they are handed over and outputs as they are taken.

    Axes, sizes and other whole numbers in the graph are known when an engine is built: nothing reads them.
    """
    shapes = _shapes(graph)
    kinds = {item.name: item.data_type for item in graph.initializer}
    for info in (*graph.input, *graph.value_info, *graph.output):
        kinds[info.name] = info.type.tensor_type.elem_type
    widths = {name: onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize for name, kind in kinds.items()}
    known = {item.name for item in graph.initializer if item.data_type != onnx.TensorProto.FLOAT}
    widths.update(dict.fromkeys(known, 0))
    if half:
        ports = {port.name for port in (*graph.input, *graph.output)}
        for name in _before_the_last_convolution(graph) - ports:
            if kinds.get(name) == onnx.TensorProto.FLOAT:
                widths[name] = 2
    return {name: math.prod(shape) * widths[name] for name, shape in shapes.items() if name in widths}


def _before_the_last_convolution(graph: onnx.GraphProto) -> set[str]:
    """Tensors that go into a convolution or a node before one, and the convolutions' own outputs."""
    wanted: set[str] = set()
    for node in reversed(graph.node):
        if node.op_type in CONVOLUTIONS or wanted.intersection(node.output):
            wanted.update(node.input)
            wanted.update(node.output)
    return wanted
