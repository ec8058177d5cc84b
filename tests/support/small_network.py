"""A gate with two convolutions, small enough to be worked out with numpy: for tests of how graphs are converted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HEIGHT, WIDTH = 8, 16

PARAMETERS: Mapping[str, np.ndarray] = {
    "one": np.array([1], np.int64),
    "scale": np.array(1 / 255, np.float32),
    "first": np.linspace(-0.5, 0.5, 2 * 9, dtype=np.float32).reshape(2, 1, 3, 3),
    "first_bias": np.array([0.1, -0.1], np.float32),
    "second": np.linspace(-0.3, 0.4, 2, dtype=np.float32).reshape(1, 2, 1, 1),
    "pixels": np.array([1, 2, 3], np.int64),
    "slope": np.array(3.0, np.float32),
}


def small_gate(parameters: Mapping[str, np.ndarray] | None = None) -> onnx.ModelProto:
    """The gate, with some of :data:`PARAMETERS` replaced."""
    nodes = [
        helper.make_node("Cast", ["frames"], ["values"], "to_float", to=TensorProto.FLOAT),
        helper.make_node("Gather", ["values", "index"], ["chosen"], "choose", axis=0),
        helper.make_node("Unsqueeze", ["chosen", "one"], ["plane"], "plane"),
        helper.make_node("Mul", ["plane", "scale"], ["scaled"], "normalise"),
        helper.make_node("Conv", ["scaled", "first", "first_bias"], ["features"], "conv_1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["features"], ["rectified"], "relu"),
        helper.make_node("Conv", ["rectified", "second"], ["map"], "conv_2"),
        helper.make_node("ReduceMean", ["map", "pixels"], ["mean"], "pool", keepdims=0),
        helper.make_node("Mul", ["mean", "slope"], ["logit"], "slope"),
        helper.make_node("Sigmoid", ["logit"], ["scores"], "sigmoid"),
    ]
    values = {**PARAMETERS, **(parameters or {})}
    return graph_of(nodes, values)


def graph_of(
    nodes: list[onnx.NodeProto],
    parameters: Mapping[str, np.ndarray],
    output: str = "scores",
    shape: Sequence[str | int] = ("batch",),
) -> onnx.ModelProto:
    """A gate's graph from its nodes, checked."""
    inputs = [
        helper.make_tensor_value_info("frames", TensorProto.UINT8, ["frames", HEIGHT, WIDTH]),
        helper.make_tensor_value_info("index", TensorProto.INT64, ["batch"]),
    ]
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)]
    initialisers = [numpy_helper.from_array(value, name) for name, value in parameters.items()]
    graph = helper.make_graph(nodes, "gate", inputs, outputs, initialisers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model
