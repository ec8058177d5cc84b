"""The counts of a small graph against those made by hand."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.graph_work import Kernel, count_stage
from tests.support.tiny_cascade import gate_graph


def graph(nodes: list[onnx.NodeProto], weights: dict[str, tuple[int, ...]], height: int, width: int) -> onnx.ModelProto:
    """A gate of these nodes between ``values`` float32 [batch, 1, height, width] and ``logit``."""
    before = [
        helper.make_node("Cast", ["frames"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["cast", "index"], ["chosen"], axis=0),
        helper.make_node("Unsqueeze", ["chosen", "one"], ["values"]),
    ]
    after = [helper.make_node("Sigmoid", ["logit"], ["scores"])]
    initialisers = [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in weights.items()]
    initialisers.append(numpy_helper.from_array(np.array([1], np.int64), "one"))
    model = helper.make_model(
        helper.make_graph(
            [*before, *nodes, *after],
            "gate",
            [
                helper.make_tensor_value_info("frames", TensorProto.UINT8, ["frames", height, width]),
                helper.make_tensor_value_info("index", TensorProto.INT64, ["batch"]),
            ],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch"])],
            initialisers,
        ),
        opset_imports=[helper.make_opsetid("", 18)],
    )
    onnx.checker.check_model(model)
    return model


CONVOLUTION = helper.make_node("Conv", ["values", "weight", "bias"], ["wide"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
GROUPED = helper.make_node(
    "Conv", ["active", "spread"], ["logit"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2], group=8
)


def two_convolutions() -> onnx.ModelProto:
    nodes = [CONVOLUTION, helper.make_node("Relu", ["wide"], ["active"]), GROUPED]
    return graph(nodes, {"weight": (8, 1, 3, 3), "bias": (8,), "spread": (8, 1, 3, 3)}, 4, 10)


def test_counts_are_those_made_by_hand() -> None:
    # Three frames out of a buffer of five, 4 x 10 pixels each, in half precision up to the second convolution.
    cast, gather, dense, grouped = count_stage(two_convolutions(), batch_size=3, places=5, half=True).kernels
    # 5 x 40 bytes in, 5 x 40 values of 2 bytes out.
    assert cast == Kernel(("Cast",), "vector", 0, 200 + 400)
    # Of the buffer three frames are read, with three indices of 8 bytes, and written again.
    assert gather == Kernel(("Gather", "Unsqueeze"), "vector", 0, 240 + 24 + 240)
    # 3 x 8 x 40 values out of 1 x 3 x 3 multiply-adds; in: 120 values, 72 weights, 8 biases; out: 960 values.
    assert dense == Kernel(("Conv", "Relu"), "tensor", 960 * 9, 2 * (120 + 72 + 8 + 960))
    # Half the height and width: 3 x 8 x 2 x 5 values; the scores leave in 4 bytes.
    assert grouped == Kernel(("Conv", "Sigmoid"), "vector", 240 * 9, 2 * (960 + 72) + 4 * 240)


def test_in_float32_every_value_takes_four_bytes() -> None:
    work = count_stage(two_convolutions(), batch_size=3, places=5, half=False)
    assert [kernel.bytes_moved for kernel in work.kernels] == [
        200 + 800,
        480 + 24 + 480,
        4 * (120 + 72 + 8 + 960),
        4 * (960 + 72 + 240),
    ]
    assert work.multiply_adds == 960 * 9 + 240 * 9


def test_a_value_that_two_read_is_written_for_the_second() -> None:
    nodes = [
        CONVOLUTION,
        helper.make_node("Relu", ["wide"], ["active"]),
        helper.make_node("Add", ["wide", "active"], ["logit"]),
    ]
    model = graph(nodes, {"weight": (8, 1, 3, 3), "bias": (8,)}, 4, 10)
    kernels = count_stage(model, batch_size=1, places=1, half=False).kernels
    assert [kernel.operators for kernel in kernels] == [
        ("Cast",),
        ("Gather", "Unsqueeze"),
        ("Conv",),
        ("Relu", "Add", "Sigmoid"),
    ]
    # The convolution's values are read once more and its own kernel has written them.
    assert kernels[-1].bytes_moved == 4 * (320 + 320)


@pytest.mark.parametrize(("transposed", "shape"), [(0, (40, 6)), (1, (6, 40))])
def test_a_product_multiplies_along_the_inner_dimension(transposed: int, shape: tuple[int, int]) -> None:
    nodes = [
        helper.make_node("Flatten", ["values"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight"], ["logit"], transB=transposed),
    ]
    work = count_stage(graph(nodes, {"weight": shape}, 4, 10), batch_size=3, places=3, half=False)
    assert work.multiply_adds == 3 * 6 * 40


def test_a_transposed_convolution_counts_by_what_comes_in() -> None:
    node = helper.make_node("ConvTranspose", ["values", "weight"], ["logit"], kernel_shape=[2, 2], strides=[2, 2])
    work = count_stage(graph([node], {"weight": (1, 6, 2, 2)}, 4, 10), batch_size=2, places=2, half=True)
    assert work.multiply_adds == 2 * 40 * 6 * 4
    assert work.kernels[-1].engine == "tensor"


def test_a_graph_without_convolutions_stays_in_float32() -> None:
    half, exact = (count_stage(gate_graph(64, 160), batch_size=2, places=2, half=half) for half in (True, False))
    assert half == exact
    assert half.multiply_adds == 0
