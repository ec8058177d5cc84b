"""The reference itself against ONNX Runtime: an implementation that shares nothing with OpenVINO."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from engines.comparison_frames import read_comparison_frames
from engines.definition import CascadeDefinition, Stage, load_definition
from engines.openvino.reference import ReferenceStage
from tests.support.tiny_cascade import write_tiny_cascade

SHIPPED = Path(__file__).parents[2] / "cascades" / "reference"
FRAMES = 6


@pytest.fixture(scope="module", params=["tiny", "reference"])
def definition(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CascadeDefinition:
    if request.param == "tiny":
        return load_definition(write_tiny_cascade(tmp_path_factory.mktemp("tiny")))
    return load_definition(SHIPPED)


@pytest.fixture(scope="module")
def frames(definition: CascadeDefinition) -> list[np.ndarray]:
    compared = read_comparison_frames(definition, bit_depth=16)
    return [*compared.frames[: FRAMES // 2], *compared.frames[-FRAMES // 2 :]]


def run(stage: Stage, frames: list[np.ndarray], **inputs: Any) -> Iterator[np.ndarray]:
    """ONNX Runtime's output for each frame: all of them handed over at once, each chosen by its index."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(stage.model), options, providers=["CPUExecutionProvider"])
    stack = np.stack(frames)
    for number in range(len(frames)):
        (output,) = session.run(None, {"frames": stack, "index": np.array([number]), **inputs})
        yield output[0]


def test_scores_agree(definition: CascadeDefinition, frames: list[np.ndarray]) -> None:
    for stage in definition.stages[:2]:
        reference = ReferenceStage(stage, definition)
        for frame, expected in zip(frames, run(stage, frames), strict=True):
            np.testing.assert_allclose(reference.scores(frame), expected, atol=1e-4)


def test_masks_agree(definition: CascadeDefinition, frames: list[np.ndarray]) -> None:
    pixels = 0
    for stage, settings in zip(definition.stages[2:], definition.classes, strict=True):
        threshold = settings.mask_threshold
        reference = ReferenceStage(stage, definition)
        for frame, expected in zip(
            frames, run(stage, frames, threshold=np.array([threshold], np.float32)), strict=True
        ):
            mask = reference.mask(frame, threshold)
            assert mask.dtype == expected.dtype == np.uint8
            assert mask.shape == expected.shape == (definition.input.width, definition.input.height)
            # A pixel whose score lies on the threshold may fall on either side.
            assert np.count_nonzero(mask != expected) <= 20
            pixels += int(mask.sum())
    assert pixels > 0
