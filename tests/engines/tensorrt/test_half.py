"""Deriving half-precision graphs: what becomes half, what stays, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from engines.definition import load_definition
from engines.errors import EngineError
from engines.tensorrt.half import to_half
from tests.support.small_network import HEIGHT, PARAMETERS, WIDTH, graph_of, small_gate
from tests.support.tiny_cascade import gate_graph

SHIPPED = load_definition(Path(__file__).parents[3] / "cascades" / "reference")


def types_of(model: onnx.ModelProto) -> dict[str, str]:
    """Element types of everything in a graph, by name."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, check_type=True).graph
    found = {item.name: item.type.tensor_type.elem_type for item in (*graph.input, *graph.output, *graph.value_info)}
    found.update((item.name, item.data_type) for item in graph.initializer)
    return {name: TensorProto.DataType.Name(kind) for name, kind in found.items()}


def scores(model: onnx.ModelProto, frames: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"frames": frames, "index": np.arange(len(frames))})
    return np.asarray(found)


def test_everything_before_and_in_convolutions_is_half_and_nothing_after() -> None:
    types = types_of(to_half(small_gate()))
    half = {"values", "chosen", "plane", "scaled", "features", "rectified", "map_half"}
    half |= {"scale_half", "first_half", "first_bias_half", "second_half"}
    assert {name for name, kind in types.items() if kind == "FLOAT16"} == half
    assert {name for name, kind in types.items() if kind == "FLOAT"} == {"map", "mean", "logit", "slope", "scores"}


def test_casts_are_at_the_borders_only() -> None:
    before = [node.op_type for node in small_gate().graph.node]
    derived = to_half(small_gate()).graph.node
    assert [node.op_type for node in derived] == [*before[:7], "Cast", *before[7:]]
    assert (derived[7].input[0], derived[7].output[0]) == ("map_half", "map")


def test_inputs_and_outputs_keep_their_types() -> None:
    for stage in SHIPPED.stages:
        model = onnx.load(stage.model)
        derived = to_half(model)
        assert list(derived.graph.input) == list(model.graph.input)
        assert list(derived.graph.output) == list(model.graph.output)


def test_the_float32_graph_stays_as_it_is() -> None:
    model = small_gate()
    before = model.SerializeToString(deterministic=True)
    to_half(model)
    assert model.SerializeToString(deterministic=True) == before


def test_it_says_nearly_what_the_float32_graph_says() -> None:
    frames = np.random.default_rng(1).integers(0, 256, (3, HEIGHT, WIDTH), dtype=np.uint8)
    np.testing.assert_allclose(scores(to_half(small_gate()), frames), scores(small_gate(), frames), atol=2e-3)


def test_all_convolutions_of_the_shipped_cascade_are_half() -> None:
    for stage in SHIPPED.stages:
        derived = to_half(onnx.load(stage.model))
        types = types_of(derived)
        convolutions = [node for node in derived.graph.node if node.op_type == "Conv"]
        assert len(convolutions) > 20
        for node in convolutions:
            assert {types[name] for name in (*node.input, *node.output)} == {"FLOAT16"}
        # Each weight is there once: none stays behind in float32.
        assert len(derived.graph.initializer) == len(onnx.load(stage.model).graph.initializer)


def gate_of(middle: list[onnx.NodeProto], parameters: dict[str, np.ndarray]) -> onnx.ModelProto:
    """``middle`` makes ``scores`` from ``scaled``, float32 ``[batch, 1, height, width]``."""
    return graph_of([*small_gate().graph.node[:4], *middle], {**PARAMETERS, **parameters})


def test_a_convolution_that_leaves_the_graph_is_cast_back() -> None:
    middle = [helper.make_node("Conv", ["scaled", "first"], ["scores"])]
    nodes = [*small_gate().graph.node[:4], *middle]
    model = graph_of(nodes, PARAMETERS, shape=["batch", 2, HEIGHT - 2, WIDTH - 2])
    assert types_of(to_half(model))["scores"] == "FLOAT"


def test_what_both_sides_use_is_there_for_both() -> None:
    """A parameter, and a tensor, that are read in half precision and in float32."""
    middle = [
        helper.make_node("Mul", ["scaled", "slope"], ["louder"]),
        helper.make_node("Conv", ["louder", "second"], ["map"]),
        helper.make_node("Add", ["map", "louder"], ["sum"]),
        helper.make_node("Mul", ["sum", "slope"], ["product"]),
        helper.make_node("ReduceMean", ["product", "pixels"], ["scores"], keepdims=0),
    ]
    model = gate_of(middle, {"second": np.ones((1, 1, 1, 1), np.float32)})
    derived = to_half(model)
    types = types_of(derived)
    assert (types["slope"], types["slope_half"]) == ("FLOAT", "FLOAT16")
    assert (types["louder"], types["louder_half"]) == ("FLOAT", "FLOAT16")
    frames = np.random.default_rng(1).integers(0, 256, (2, HEIGHT, WIDTH), dtype=np.uint8)
    np.testing.assert_allclose(scores(derived, frames), scores(model, frames), rtol=2e-3)


def test_an_operator_s_float32_parameters_stay_so() -> None:
    """The scales of a Resize are float32 whatever it resizes, also where an exporter wrote them as a Constant."""
    for constant in (False, True):
        values = np.array([1, 1, 2, 2], np.float32)
        made = helper.make_node("Constant", [], ["scales"], value=onnx.numpy_helper.from_array(values))
        middle = [
            *([made] if constant else []),
            helper.make_node("Resize", ["scaled", "", "scales"], ["larger"], mode="nearest"),
            helper.make_node("Conv", ["larger", "first"], ["map"]),
            helper.make_node("ReduceMean", ["map", "pixels"], ["scores"], keepdims=0),
        ]
        types = types_of(to_half(gate_of(middle, {} if constant else {"scales": values})))
        assert (types["scales"], types["larger"]) == ("FLOAT", "FLOAT16")


def test_a_name_that_is_taken_is_not_used_again() -> None:
    model = small_gate()
    for node in model.graph.node:
        node.input[:] = ["scale_half" if name == "rectified" else name for name in node.input]
        node.output[:] = ["scale_half" if name == "rectified" else name for name in node.output]
    types = types_of(to_half(model))
    assert (types["scale_half"], types["scale_half_2"]) == ("FLOAT16", "FLOAT16")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"first": np.full((2, 1, 3, 3), -7e4, np.float32)}, "initialiser first has the value 70000, .* ends at 65504"),
        ({"first_bias": np.array([0, 65510], np.float32)}, "initialiser first_bias has the value 65510"),
        ({"scale": np.array(1e-9, np.float32)}, "initialiser scale has the value 1e-09, which is 0 in half precision"),
        ({"second": np.full((1, 2, 1, 1), 1e-9, np.float32)}, "initialiser second has the value 1e-09, which is 0"),
    ],
)
def test_a_value_that_half_precision_cannot_hold_is_refused(parameters: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        to_half(small_gate(parameters))


def test_a_small_weight_among_others_may_vanish() -> None:
    weights = PARAMETERS["first"].copy()
    weights[0, 0, 0, 0] = 1e-9
    to_half(small_gate({"first": weights}))


def test_a_value_of_the_tail_may_be_any() -> None:
    """What stays in float32 is not asked whether it would fit."""
    to_half(small_gate({"slope": np.array(1e-9, np.float32)}))


def test_a_graph_without_convolutions_is_refused() -> None:
    with pytest.raises(EngineError, match="no convolution in it"):
        to_half(gate_graph(HEIGHT, WIDTH))


def test_an_operator_that_cannot_be_half_is_refused_by_name() -> None:
    middle = [
        helper.make_node("QuantizeLinear", ["scaled", "step"], ["coarse"]),
        helper.make_node("DequantizeLinear", ["coarse", "step"], ["again"], "back"),
        helper.make_node("Conv", ["again", "first"], ["map"]),
        helper.make_node("ReduceMean", ["map", "pixels"], ["scores"], keepdims=0),
    ]
    with pytest.raises(EngineError, match="the QuantizeLinear coarse takes float32 only"):
        to_half(gate_of(middle, {"step": np.array(0.01, np.float32)}))


def test_an_operator_that_is_unknown_is_refused_by_name() -> None:
    model = small_gate()
    model.graph.node[5].op_type, model.graph.node[5].domain = "MyRelu", "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    with pytest.raises(EngineError, match="the MyRelu relu is no operator of ONNX"):
        to_half(model)


def test_a_graph_within_a_graph_is_refused_by_name() -> None:
    inner = helper.make_graph(
        [helper.make_node("Identity", ["scaled"], ["inside"])],
        "branch",
        [],
        [helper.make_tensor_value_info("inside", TensorProto.FLOAT, None)],
    )
    middle = [
        helper.make_node("If", ["always"], ["either"], "branches", then_branch=inner, else_branch=inner),
        helper.make_node("Conv", ["either", "first"], ["map"]),
        helper.make_node("ReduceMean", ["map", "pixels"], ["scores"], keepdims=0),
    ]
    nodes = [*small_gate().graph.node[:4], *middle]
    model = small_gate()
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "always"))
    with pytest.raises(EngineError, match="the If branches holds a graph of its own"):
        to_half(model)
