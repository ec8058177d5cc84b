"""The cascade on the tiny models, whose answers are known."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from engines import rle
from engines.cascade import Cascade, open_cascade
from engines.errors import DeviceError, EngineError, UsageError
from engines.settings import CascadeOverrides, ClassOverrides
from tests.support.tiny_cascade import class_score, frame_with, gate_score, mask_of, write_tiny_cascade


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_cascade(tmp_path_factory.mktemp("cascade"))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="module")
def cascade(folder: Path, directory: Path) -> Iterator[Cascade]:
    with open_cascade(folder, directory=directory, max_frames=8, slots=2) as opened:
        yield opened


def test_a_batch_keeps_its_order_and_every_frame_its_own_answer(cascade: Cascade) -> None:
    frames = [
        frame_with(),
        frame_with({3: [(10, 5, 20, 10)]}),
        frame_with({1: [(0, 0, 8, 8)], 4: [(100, 20, 30, 30)]}),
        frame_with(),
        frame_with({3: [(120, 50, 40, 14)]}),
    ]
    results = cascade.inspect(frames)
    assert [result.verdict for result in results] == ["clean", "defective", "defective", "clean", "defective"]
    assert [[defect.class_id for defect in result.defects] for result in results] == [[], [3], [1, 4], [], [3]]
    for frame, result in zip(frames, results, strict=True):
        assert (result.width, result.height) == (160, 64)
        assert result.gate_score == pytest.approx(gate_score(frame), abs=1e-5)
        for defect in result.defects:
            assert defect.rle == rle.encode(mask_of(frame, defect.class_id))
            assert defect.score == pytest.approx(class_score(frame, defect.class_id), abs=1e-5)
    only = results[1].defects[0]
    assert (only.box.x, only.box.y, only.box.width, only.box.height, only.area_px) == (10, 5, 20, 10, 200)
    assert only.name == "scratches"
    assert results[0].class_scores is None
    assert results[1].class_scores is not None
    assert len(results[1].class_scores) == 4
