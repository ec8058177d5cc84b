"""Do half-precision graphs say what their float32 graphs say? In arithmetic that is really half precision.

No GPU has computed this: it shows what rounding to float16 does to these networks on these frames, not what a kernel of
TensorRT does. The builder compares every engine where it is built.
"""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from engines.comparison_frames import read_comparison_frames
from engines.definition import CascadeDefinition, Stage, load_definition
from engines.images import Frame
from engines.reference import ReferenceAnswers
from engines.sizes import to_input
from engines.tensorrt.half import to_half
from tests.support.half_arithmetic import HalfSlot
from tests.support.small_network import HEIGHT, WIDTH, small_gate

# Networks run on the processor, which others may be using.
pytestmark = pytest.mark.timeout(600)

SHIPPED = load_definition(Path(__file__).parents[3] / "cascades" / "reference")
STAGES = pytest.mark.parametrize("stage", SHIPPED.stages, ids=lambda stage: stage.key)
REAL_FRAMES = 8

SPARE = 4.0
"""How much further than these frames' a value may go before it leaves float16's range."""


@pytest.fixture(scope="module")
def recorded() -> tuple[Frame, ...]:
    """One in two of the frames on which the builder compares engines, half of them defective."""
    return read_comparison_frames(SHIPPED, bit_depth=16).frames[::2]


@pytest.fixture(scope="module")
def real() -> list[Frame]:
    data = os.environ.get("MILLWATCH_DATA")
    if data is None:
        pytest.skip("MILLWATCH_DATA names no folder with real frames")
    paths = sorted((Path(data) / "severstal_frames" / "images").iterdir())[:REAL_FRAMES]
    return [to_input(np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)), SHIPPED.input) for path in paths]


def compare(stage: Stage, frames: tuple[Frame, ...] | list[Frame], definition: CascadeDefinition = SHIPPED) -> HalfSlot:
    """The stage in half precision, after it has been compared with the reference as the builder compares engines."""
    slot = HalfSlot(to_half(onnx.load(stage.model)))
    agreement = ReferenceAnswers(stage, definition, frames).compare(slot, batch_size=1)
    assert agreement.problem() is None, agreement
    return slot


@STAGES
def test_a_shipped_stage_in_half_precision_agrees_on_the_recording(stage: Stage, recorded: tuple[Frame, ...]) -> None:
    slot = compare(stage, recorded)
    assert len(slot.simulation.tensors) > 50
    assert len(slot.simulation.convolutions) > 20
    assert slot.out_of_range(65504.0 / SPARE) == []


@STAGES
def test_a_shipped_stage_in_half_precision_agrees_on_real_frames(stage: Stage, real: list[Frame]) -> None:
    assert compare(stage, real).out_of_range(65504.0 / SPARE) == []


def small_frames() -> list[Frame]:
    return [np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8) for seed in range(4)]


def run(model: onnx.ModelProto) -> HalfSlot:
    slot = HalfSlot(to_half(model))
    slot.load(small_frames())
    slot.gate(np.arange(4))
    return slot


def test_a_value_beyond_half_precision_is_seen() -> None:
    """Weights that half precision holds, and a sum of products that it does not."""
    loud = small_gate({"scale": np.array(1.0, np.float32), "first": np.full((2, 1, 3, 3), 60.0, np.float32)})
    found = run(loud).out_of_range()
    assert any(name.startswith("features ") for name in found)
    assert not any(name.startswith("scaled ") for name in found)


def test_sums_that_cancel_are_seen() -> None:
    """Products of either sign whose sum is small: a kernel that adds in float16 may pass 65504 on the way."""
    weights = np.full((2, 1, 3, 3), 200.0, np.float32)
    weights[:, :, 1] = -400.0
    found = run(small_gate({"scale": np.array(1.0, np.float32), "first": weights})).out_of_range()
    assert any(name.startswith("sums of features ") for name in found)


def test_what_is_no_number_is_seen() -> None:
    broken = small_gate({"first_bias": np.array([np.nan, 0.0], np.float32)})
    assert any(name.startswith("features inf") for name in run(broken).out_of_range())


def test_a_graph_that_stays_in_range_passes() -> None:
    assert run(small_gate()).out_of_range() == []


def test_values_are_those_that_half_precision_has() -> None:
    """Worked out with numpy's float16."""
    half = to_half(small_gate())
    slot = HalfSlot(half)
    frame = small_frames()[0]
    slot.load([frame])
    (score,) = slot.gate(np.zeros(1, np.int64))
    parameters = {item.name: onnx.numpy_helper.to_array(item) for item in half.graph.initializer}
    scaled = (frame.astype(np.float16) * parameters["scale_half"]).astype(np.float16)
    padded = np.pad(scaled.astype(np.float32), 1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
    features = np.einsum("hwij,cij->chw", windows, parameters["first_half"][:, 0].astype(np.float32))
    features = (features + parameters["first_bias_half"].astype(np.float32)[:, None, None]).astype(np.float16)
    rectified = np.maximum(features, 0).astype(np.float32)
    mapped = np.einsum("chw,c->hw", rectified, parameters["second_half"][0, :, 0, 0].astype(np.float32))
    logit = mapped.astype(np.float16).astype(np.float32).mean() * 3
    assert score == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-6)
