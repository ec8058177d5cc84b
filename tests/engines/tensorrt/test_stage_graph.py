"""Graphs that are read, and those that are not of their stage."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from engines.definition import CascadeDefinition, load_definition
from engines.errors import DeviceError, EngineError
from engines.tensorrt.stage_graph import read_graph
from tests.support.tiny_cascade import write_tiny_cascade

SHIPPED = load_definition(Path(__file__).parents[3] / "cascades" / "reference")


@pytest.fixture
def tiny(tmp_path: Path) -> CascadeDefinition:
    return load_definition(write_tiny_cascade(tmp_path / "tiny"))


def test_every_stage_of_a_right_cascade_is_read(tiny: CascadeDefinition) -> None:
    for definition in (tiny, SHIPPED):
        for stage in definition.stages:
            assert read_graph(stage, definition).graph.node


Change = Callable[[onnx.GraphProto], None]


def other_size(graph: onnx.GraphProto) -> None:
    graph.input[0].type.tensor_type.shape.dim[2].dim_value = 99


def no_height(graph: onnx.GraphProto) -> None:
    del graph.input[0].type.tensor_type.shape.dim[2]


def wide_index(graph: onnx.GraphProto) -> None:
    graph.input[1].type.tensor_type.elem_type = TensorProto.INT32


def second_output(graph: onnx.GraphProto) -> None:
    graph.output.append(helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["batch"]))


def loose_end(graph: onnx.GraphProto) -> None:
    graph.node[3].input[0] = "nowhere"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_size, r"frames are \['frames', 64, 99\], expected \[frames, 64, 160\]"),
        (no_height, r"frames are \['frames', 64\], expected"),
        (wide_index, "inputs are frames uint8, index int32, expected frames uint8, index int64"),
        (second_output, "outputs are logit float, scores float, expected scores float"),
        (loose_end, "not a usable model: .*nowhere"),
    ],
)
def test_a_graph_that_is_not_this_stage_s_is_an_engine_error(
    tiny: CascadeDefinition, change: Change, message: str
) -> None:
    stage = tiny.stages[0]
    model = onnx.load(stage.model)
    change(model.graph)
    stage.model.write_bytes(model.SerializeToString())
    with pytest.raises(EngineError, match=rf"gate\.onnx: gate: {message}") as caught:
        read_graph(stage, tiny)
    assert "\n" not in str(caught.value)


def test_a_graph_of_another_stage_is_an_engine_error(tiny: CascadeDefinition) -> None:
    swapped = replace(tiny.stages[0], model=tiny.stages[2].model)
    with pytest.raises(EngineError, match=r"gate: inputs are frames uint8, index int64, threshold float, expected"):
        read_graph(swapped, tiny)


def test_a_file_that_is_no_graph_is_an_engine_error(tiny: CascadeDefinition) -> None:
    stage = tiny.stages[0]
    for content in (b"no model", b""):
        stage.model.write_bytes(content)
        with pytest.raises(EngineError, match=r"gate\.onnx: gate: not a usable model: "):
            read_graph(stage, tiny)
    stage.model.unlink()
    with pytest.raises(EngineError, match=r"gate\.onnx: gate: not a usable model: .*No such file"):
        read_graph(stage, tiny)


def test_a_machine_without_onnx_is_told_what_to_install(
    tiny: CascadeDefinition, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(DeviceError, match=r"needs the package onnx .*: pip install onnx"):
        read_graph(tiny.stages[0], tiny)
