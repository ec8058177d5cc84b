"""Every stage through the project's own builder, with TensorRT for RTX in TensorRT's place: it builds without a GPU.

What is shown: graphs, types and profiles are such that a parser and a builder of TensorRT's take them. What is not:
which kernels TensorRT chooses, how fast they are and what they compute. The plans are thrown away, they are no engines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from engines.definition import CascadeDefinition, Stage, load_definition
from engines.errors import DeviceError, EngineError
from engines.tensorrt.compiler import TensorRTCompiler
from engines.tensorrt.device import CudaDevice
from engines.tensorrt.half import to_half
from engines.tensorrt.network import PlanOptions, build_plan
from engines.tensorrt.timing_cache import read_timing_cache, write_timing_cache
from tests.support.tiny_cascade import write_tiny_cascade

rtx = pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT for RTX is not installed (make test-gpu)")

pytestmark = pytest.mark.timeout(600)

SHIPPED = load_definition(Path(__file__).parents[2] / "cascades" / "reference")
L4 = CudaDevice(0, "NVIDIA L4", (8, 9), "580.65.06", "13.0", 24_000_000_000)
BATCH_SIZES = TensorRTCompiler(L4, rtx).batch_sizes(8)

NO_TIMING = pytest.mark.filterwarnings("ignore:Use Deprecated in TensorRT-RTX 1.2:DeprecationWarning")
"""TensorRT for RTX takes a timing cache and does nothing with it."""


@dataclass
class Asked:
    """What a builder was asked for."""

    profiles: list[Any]
    network: Any = None
    config: Any = None


@pytest.fixture
def asked() -> Asked:
    return Asked([])


@pytest.fixture
def library(asked: Asked) -> Any:
    """The module, with a builder that remembers what it was asked for."""

    class RememberingBuilder(rtx.Builder):  # type: ignore[misc, name-defined]
        def create_optimization_profile(self) -> Any:
            asked.profiles.append(super().create_optimization_profile())
            return asked.profiles[-1]

        def build_serialized_network(self, network: Any, config: Any) -> Any:
            asked.network, asked.config = network, config
            return super().build_serialized_network(network, config)

    return replaced(Builder=RememberingBuilder)


def replaced(**names: Any) -> Any:
    """The module with some of its names replaced."""
    module = ModuleType("tensorrt")
    vars(module).update(vars(rtx) | names)
    return module


def graph_of(stage: Stage, precision: str) -> onnx.ModelProto:
    model = onnx.load(stage.model)
    return to_half(model) if precision == "f16" else model


def layer_types(network: Any) -> Iterator[tuple[Any, Any]]:
    for number in range(network.num_layers):
        layer = network.get_layer(number)
        yield layer.type, layer.get_output(0).dtype


@pytest.mark.parametrize("precision", ["f32", "f16"])
@pytest.mark.parametrize("stage", SHIPPED.stages, ids=lambda stage: stage.key)
def test_a_shipped_stage_is_parsed_and_built_with_its_profiles(
    stage: Stage, precision: str, library: Any, asked: Asked
) -> None:
    graph = graph_of(stage, precision).SerializeToString()
    assert len(build_plan(library, graph, stage, SHIPPED, BATCH_SIZES, PlanOptions())) > 100_000
    assert BATCH_SIZES == (1, 2, 4, 8)
    assert [[tuple(shape) for shape in profile.get_shape("index")] for profile in asked.profiles] == [
        [(size,)] * 3 for size in BATCH_SIZES
    ]
    for profile in asked.profiles:
        assert [tuple(shape) for shape in profile.get_shape("frames")] == [
            (1, 256, 1600),
            (8, 256, 1600),
            (8, 256, 1600),
        ]
    assert asked.config.num_optimization_profiles == len(BATCH_SIZES)
    assert not asked.config.get_flag(rtx.BuilderFlag.TF32)
    assert asked.network.get_flag(rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    kinds = {kind for layer, kind in layer_types(asked.network) if layer == rtx.LayerType.CONVOLUTION}
    assert kinds == {rtx.DataType.HALF if precision == "f16" else rtx.DataType.FLOAT}


@pytest.mark.parametrize("max_frames", [1, 6])
def test_a_stage_is_built_for_every_largest_batch(max_frames: int, library: Any, asked: Asked) -> None:
    sizes = TensorRTCompiler(L4, rtx).batch_sizes(max_frames)
    stage = SHIPPED.stages[0]
    build_plan(library, graph_of(stage, "f16").SerializeToString(), stage, SHIPPED, sizes, PlanOptions())
    assert tuple(asked.profiles[-1].get_shape("frames")[2]) == (max_frames, 256, 1600)
    assert asked.config.num_optimization_profiles == len(sizes)


@pytest.fixture
def tiny(tmp_path: Path) -> CascadeDefinition:
    return load_definition(write_tiny_cascade(tmp_path / "tiny"))


def test_stages_without_convolutions_are_built_in_float32(tiny: CascadeDefinition) -> None:
    for stage in tiny.stages:
        build_plan(rtx, stage.model.read_bytes(), stage, tiny, (1, 3), PlanOptions())


Change = Callable[[onnx.GraphProto], None]


def wrong_channels(graph: onnx.GraphProto) -> None:
    for item in graph.initializer:
        if item.name == "network.head.weight":
            values = numpy_helper.to_array(item)
            item.CopyFrom(numpy_helper.from_array(np.concatenate([values, values], axis=1), item.name))


def mixed_types(graph: onnx.GraphProto) -> None:
    for item in graph.initializer:
        if item.name == "network.head.weight":
            item.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(item).astype(np.float16), item.name))


def unknown_operator(graph: onnx.GraphProto) -> None:
    graph.node[5].op_type, graph.node[5].domain = "MyRelu", "com.example"


def unsupported_operator(graph: onnx.GraphProto) -> None:
    graph.node[5].op_type = "Bernoulli"


def gather_of_bytes(graph: onnx.GraphProto) -> None:
    """The order of operators that no backend takes: frames chosen before they are numbers."""
    graph.node[0].input[0], graph.node[0].output[0] = "bytes", graph.node[1].output[0]
    del graph.node[1]
    graph.node.insert(0, helper.make_node("Gather", ["frames", "index"], ["bytes"], "pick"))


def no_score_a_frame(graph: onnx.GraphProto) -> None:
    """A column of scores where a plain list is expected."""
    graph.node[-2].op_type, graph.node[-2].input[:] = "Identity", graph.node[-2].input[:1]


def fixed_batch(graph: onnx.GraphProto) -> None:
    graph.input[1].type.tensor_type.shape.dim[0].dim_value = 2


def fixed_frames(graph: onnx.GraphProto) -> None:
    graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (wrong_channels, "parser refuses the Conv node_conv2d_20: INVALID_NODE: Kernel weight dimension failed"),
        (mixed_types, "parser refuses the Conv node_conv2d_20: .*must be of same type"),
        (unknown_operator, "parser refuses the MyRelu node_relu: INVALID_NODE: .*Plugin not found"),
        (unsupported_operator, "parser refuses the Bernoulli node_relu: UNSUPPORTED_NODE"),
        (gather_of_bytes, "parser refuses the Gather pick: UNSUPPORTED_NODE: Found unsupported input type of UINT8"),
        (no_score_a_frame, r"output scores is float \[-1, 1\], expected is scores float \[-1\]"),
        (fixed_batch, r"output scores is float \[2\]"),
        (fixed_frames, "cannot be built: .*Input tensor frames has static dimensions"),
    ],
)
def test_a_broken_graph_is_refused_with_a_readable_line(change: Change, message: str) -> None:
    model = onnx.load(SHIPPED.stages[0].model)
    change(model.graph)
    with pytest.raises(EngineError, match=f"gate.onnx: gate: .*(?:{message})") as caught:
        build_plan(rtx, model.SerializeToString(), SHIPPED.stages[0], SHIPPED, (1, 2), PlanOptions())
    assert "\n" not in str(caught.value)


def test_what_is_no_graph_is_refused_with_a_readable_line() -> None:
    with pytest.raises(EngineError, match=r"gate\.onnx: gate: TensorRT's parser refuses it: MODEL_DESERIALIZE_FAILED"):
        build_plan(rtx, b"no graph", SHIPPED.stages[0], SHIPPED, (1,), PlanOptions())


def test_a_half_graph_with_a_float32_edge_is_refused() -> None:
    """What the derivation must never make: TensorRT converts nothing by itself."""
    derived = graph_of(SHIPPED.stages[0], "f16")
    casts = [node for node in derived.graph.node if node.op_type == "Cast" and node.input[0] != "frames"]
    casts[0].op_type = "Identity"
    del casts[0].attribute[:]
    with pytest.raises(EngineError, match=r"gate\.onnx: gate: output scores is half"):
        build_plan(rtx, derived.SerializeToString(), SHIPPED.stages[0], SHIPPED, (1,), PlanOptions())


def test_a_builder_that_gives_up_is_an_engine_error() -> None:
    class GivingUp:
        def __init__(self, logger: Any) -> None:
            self._builder, self._logger = rtx.Builder(logger), logger

        def __getattr__(self, name: str) -> Any:
            return getattr(self._builder, name)

        def build_serialized_network(self, network: Any, config: Any) -> None:
            self._logger.log(rtx.ILogger.ERROR, "Error Code 10: no kernel for node_conv2d_20\nand more")

    graph = SHIPPED.stages[0].model.read_bytes()
    with pytest.raises(EngineError, match=r"gate: cannot be built: .*no kernel for node_conv2d_20$"):
        build_plan(replaced(Builder=GivingUp), graph, SHIPPED.stages[0], SHIPPED, (1,), PlanOptions())


def test_a_library_that_does_not_start_is_a_device_error() -> None:
    def builder(logger: Any) -> Any:
        raise TypeError("pybind11::init(): factory function returned nullptr")

    with pytest.raises(DeviceError, match="TensorRT does not start on this GPU"):
        build_plan(replaced(Builder=builder), b"", SHIPPED.stages[0], SHIPPED, (1,), PlanOptions())


@NO_TIMING
@pytest.mark.parametrize("before", [None, b"garbage", "alien"])
def test_a_timing_cache_is_kept_and_a_damaged_one_replaced(before: bytes | str | None, tmp_path: Path) -> None:
    path = tmp_path / "cache"
    if isinstance(before, bytes):
        path.write_bytes(before)
    elif before:
        # Written in full, and yet nothing that TensorRT knows.
        write_timing_cache(path, before.encode() * 100)
    graph = SHIPPED.stages[0].model.read_bytes()
    build_plan(rtx, graph, SHIPPED.stages[0], SHIPPED, (1,), PlanOptions(timing_cache=path))
    written = read_timing_cache(path)
    assert written
    assert b"alien" not in written
    build_plan(rtx, graph, SHIPPED.stages[0], SHIPPED, (1,), PlanOptions(timing_cache=path))
    assert [file.name for file in tmp_path.iterdir()] == ["cache"]
