"""Half precision without a GPU: a graph in float16 computed so that every value is one that float16 has.

ONNX Runtime's processor kernels compute float16 graphs in float32 and so see no overflow. Here every tensor of the
graph is rounded to float16 after the node that makes it, and the largest magnitude before the rounding is told, so that
what leaves float16's range is seen. Products are summed in float32, as tensor cores do it; where a GPU's kernel sums in
float16, no sum on the way may leave the range either, whatever the order: the sums of the products' magnitudes, which
bound them all, are told as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from engines.backend import Index, Scores
from engines.images import Frame
from engines.rle import Mask

RANGES, SUMS = "largest_magnitudes", "largest_sums"


@dataclass(frozen=True, slots=True)
class Simulation:
    """A float32 graph that rounds as its float16 original does, the tensors whose magnitudes it tells, and the
    convolutions whose sums it tells, in the order of the graph's additional outputs."""

    model: onnx.ModelProto
    tensors: tuple[str, ...]
    convolutions: tuple[str, ...]


def simulate(half: onnx.ModelProto) -> Simulation:
    """The graph that computes what ``half`` says, rounded as it says."""
    inferred = onnx.shape_inference.infer_shapes(half, strict_mode=True).graph
    halves = {item.name for item in inferred.value_info if item.type.tensor_type.elem_type == TensorProto.FLOAT16}
    parameters = {item.name: item for item in half.graph.initializer if item.data_type == TensorProto.FLOAT16}
    nodes: list[onnx.NodeProto] = []
    tensors: list[str] = []
    convolutions: list[str] = []
    for original in half.graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(original)
        if node.op_type == "Cast":
            for attribute in node.attribute:
                if attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
                    attribute.i = TensorProto.FLOAT
        nodes.append(node)
        for place, name in enumerate(original.output):
            if name in halves:
                node.output[place] = f"{name}/exact"
                nodes += _rounding(f"{name}/exact", name)
                nodes += _magnitude(f"{name}/exact", f"{name}/magnitude")
                tensors.append(name)
        if original.op_type == "Conv" and original.output[0] in halves:
            nodes += _bounding_sum(node, original.output[0], parameters)
            convolutions.append(original.output[0])
    nodes.append(helper.make_node("Concat", [f"{name}/magnitude" for name in tensors], [RANGES], axis=0))
    nodes.append(helper.make_node("Concat", [f"{name}/sum" for name in convolutions], [SUMS], axis=0))
    graph = helper.make_graph(
        nodes,
        half.graph.name,
        list(half.graph.input),
        [
            *half.graph.output,
            helper.make_tensor_value_info(RANGES, TensorProto.FLOAT, [len(tensors)]),
            helper.make_tensor_value_info(SUMS, TensorProto.FLOAT, [len(convolutions)]),
        ],
        [_widened(item) for item in half.graph.initializer],
    )
    graph.initializer.append(numpy_helper.from_array(np.array([-1], np.int64), "flat"))
    graph.initializer.append(numpy_helper.from_array(np.array(np.inf, np.float32), "infinity"))
    model = helper.make_model(graph, opset_imports=half.opset_import, ir_version=half.ir_version)
    onnx.checker.check_model(model)
    return Simulation(model, tuple(tensors), tuple(convolutions))


def _rounding(exact: str, rounded: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Cast", [exact], [f"{rounded}/half"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", [f"{rounded}/half"], [rounded], to=TensorProto.FLOAT),
    ]


def _magnitude(values: str, largest: str) -> list[onnx.NodeProto]:
    """The largest magnitude among ``values``, float32 ``[1]``; infinite where one of them is not a number."""
    return [
        helper.make_node("Abs", [values], [f"{largest}/abs"]),
        helper.make_node("IsNaN", [values], [f"{largest}/nan"]),
        helper.make_node("Where", [f"{largest}/nan", "infinity", f"{largest}/abs"], [f"{largest}/told"]),
        helper.make_node("Reshape", [f"{largest}/told", "flat"], [f"{largest}/flat"]),
        helper.make_node("ReduceMax", [f"{largest}/flat"], [largest], keepdims=1),
    ]


def _bounding_sum(node: onnx.NodeProto, name: str, parameters: dict[str, Any]) -> list[onnx.NodeProto]:
    """The largest sum of magnitudes of a convolution's products, float32 ``[1]``."""
    magnitudes = [f"{name}/sum/{place}" for place in range(len(node.input))]
    bound = onnx.NodeProto()
    bound.CopyFrom(node)
    bound.name = ""
    bound.input[:] = magnitudes
    bound.output[:] = [f"{name}/sum/all"]
    return [
        *(helper.make_node("Abs", [given], [made]) for given, made in zip(node.input, magnitudes, strict=True)),
        bound,
        *_magnitude(f"{name}/sum/all", f"{name}/sum"),
    ]


def _widened(item: onnx.TensorProto) -> onnx.TensorProto:
    if item.data_type != TensorProto.FLOAT16:
        return item
    return numpy_helper.from_array(numpy_helper.to_array(item).astype(np.float32), item.name)


class HalfSlot:
    """Implements :class:`engines.backend.Slot` for one stage, a frame at a time; keeps the largest magnitudes."""

    def __init__(self, half: onnx.ModelProto) -> None:
        self.simulation = simulate(half)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            self.simulation.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._frames: Sequence[Frame] = ()
        self.largest = np.zeros(len(self.simulation.tensors), np.float32)
        self.largest_sums = np.zeros(len(self.simulation.convolutions), np.float32)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def load(self, frames: Sequence[Frame]) -> None:
        self._frames = frames

    def gate(self, index: Index) -> Scores:
        return np.concatenate([self._run(number) for number in index])

    def classify(self, index: Index) -> Scores:
        return np.concatenate([self._run(number) for number in index])

    def segment(self, class_number: int, index: Index, threshold: float) -> Iterator[Mask]:
        for number in index:
            yield self._run(number, threshold=np.full(1, threshold, np.float32))[0]

    def out_of_range(self, limit: float = 65504.0) -> list[str]:
        """What was larger than ``limit`` so far: tensors, and convolutions whose sums were."""
        named = [
            f"{name} {largest:g}"
            for name, largest in zip(self.simulation.tensors, self.largest, strict=True)
            if not largest <= limit
        ]
        sums = zip(self.simulation.convolutions, self.largest_sums, strict=True)
        return [*named, *(f"sums of {name} {largest:g}" for name, largest in sums if not largest <= limit)]

    def _run(self, number: int, **inputs: Any) -> Any:
        frames = self._frames[number][np.newaxis]
        output, ranges, sums = self._session.run(None, {"frames": frames, "index": np.zeros(1, np.int64), **inputs})
        self.largest = np.maximum(self.largest, ranges)
        self.largest_sums = np.maximum(self.largest_sums, sums)
        return output
