"""Image files through a cascade that says what the test wants."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from daemon.file_inspection import InspectedFile, RejectedFile, draw_file, inspect_files
from daemon.pictures.palette import WHITE
from daemon.truth import read_truth
from engines import rle
from engines.errors import UsageError
from engines.images import ImageLimits
from engines.results import Box, Defect, EngineIdentity, Inspection

LIMITS = ImageLimits(min_pixels=1)


class FakeCascade:
    """Finds one defect, all of the frame's upper half, on frames that are darker than 100."""

    max_frames = 3
    identity = EngineIdentity("fake", "h", "s", "fake")

    def __init__(self) -> None:
        self.batches: list[int] = []

    def inspect(self, frames: Sequence[np.ndarray]) -> list[Inspection]:
        self.batches.append(len(frames))
        return [self._inspection(frame) for frame in frames]

    def _inspection(self, frame: np.ndarray) -> Inspection:
        height, width = frame.shape
        mask = np.zeros((height, width), np.uint8)
        mask[: height // 2] = 1
        defect = Defect(3, "scratches", 0.9, int(mask.sum()), Box(0, 0, width, height // 2), rle.encode(mask))
        return Inspection(width, height, 0.5, None, (defect,) if frame.mean() < 100 else ())


def write(path: Path, grey: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((20, 30), grey, np.uint8))
    return path


def inspect(*paths: Path) -> list[Any]:
    return list(inspect_files(paths, FakeCascade(), LIMITS))  # type: ignore[arg-type]


def test_an_event_has_the_path_for_its_id_and_the_file_for_its_frame(tmp_path: Path):
    path = write(tmp_path / "strip-7.png", 50)
    (result,) = inspect(path)
    event = result.event
    assert (event.id, event.frame, event.camera, event.verdict) == (str(path), "strip-7", "unknown", "defective")
    assert (event.width, event.height, event.engine.cascade) == (30, 20, "fake")
    assert event.captured_at <= event.inspected_at
    assert (result.pixels == 50).all()


def test_results_come_in_the_order_of_the_files_whatever_is_wrong_with_some(tmp_path: Path):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").write_bytes(b"")
    paths = [
        write(tmp_path / "a.png", 50),
        tmp_path / "text.png",
        tmp_path / "absent.png",
        write(tmp_path / "b.png", 150),
        tmp_path / "empty.png",
        write(tmp_path / "c.png", 50),
    ]
    results = inspect(*paths)
    assert [result.path for result in results] == paths
    assert [getattr(getattr(result, "event", None), "verdict", None) for result in results] == [
        "defective",
        None,
        None,
        "clean",
        None,
        "defective",
    ]
    problems = [result.problem.partition(":")[0] for result in results if isinstance(result, RejectedFile)]
    assert problems == ["unknown-format", "no such file or folder", "empty"]


def test_folders_are_walked_and_batches_filled(tmp_path: Path):
    for number in range(7):
        write(tmp_path / "in" / f"{number}.png", 50)
    cascade = FakeCascade()
    results = list(inspect_files([tmp_path / "in"], cascade, LIMITS))  # type: ignore[arg-type]
    assert [result.path.stem for result in results] == [str(number) for number in range(7)]
    assert cascade.batches == [3, 3, 1]


def test_nothing_but_rejected_files_asks_the_cascade_for_nothing(tmp_path: Path):
    cascade = FakeCascade()
    assert len(list(inspect_files([tmp_path / "absent"], cascade, LIMITS))) == 1  # type: ignore[arg-type]
    assert cascade.batches == []


@pytest.fixture
def inspected(tmp_path: Path) -> InspectedFile:
    (result,) = inspect(write(tmp_path / "strip-7.png", 50))
    assert isinstance(result, InspectedFile)
    return result


def test_the_true_mask_of_the_file_is_drawn_beside_what_was_found(inspected: InspectedFile, tmp_path: Path):
    mask = np.zeros((20, 30), np.uint8)
    mask[12:18, 5:25] = 1
    (tmp_path / "truth.csv").write_text(f"ImageId,ClassId,EncodedPixels\nstrip-7.jpg,1,{rle.encode(mask)}\n")
    without = draw_file(inspected, None, {})
    with_truth = draw_file(inspected, read_truth(tmp_path / "truth.csv"), {1: "pits"})
    white = [(picture == WHITE.bgr).all(axis=2).sum() for picture in (without, with_truth)]
    assert white[1] > white[0] + 100


def test_a_true_mask_that_does_not_fit_is_told(inspected: InspectedFile, tmp_path: Path):
    (tmp_path / "truth.csv").write_text("ImageId,ClassId,EncodedPixels\nstrip-7.jpg,1,1 10000\n")
    with pytest.raises(UsageError, match=r"strip-7\.png, class 1"):
        draw_file(inspected, read_truth(tmp_path / "truth.csv"), {})
