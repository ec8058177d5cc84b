from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from crc32c import crc32c

from engines.errors import UsageError
from engines.recording import read_recording
from engines.rle import decode
from training import recording


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recording")
    recording.main(["--seed", "3", "--frames", "12", "--defective", "8", "--output", str(folder)])
    return folder


def truth_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "truth.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_record_is_a_grey_jpeg_with_its_headers(written: Path) -> None:
    frames = list(read_recording(written / "recording.parquet"))
    assert len(frames) == 12
    for index, frame in enumerate(frames):
        assert frame.key == f"cam-{index % 2 + 1}".encode()
        assert frame.header("frame-id") == f"strip-{index + 1:04d}"
        assert frame.header("content-type") == "image/jpeg"
        assert frame.value is not None
        assert frame.header("crc32c") == f"{crc32c(frame.value):08x}"
        image = cv2.imdecode(np.frombuffer(frame.value, np.uint8), cv2.IMREAD_UNCHANGED)
        assert image is not None
        assert image.shape == (256, 1600)


def test_time_and_offsets_advance(written: Path) -> None:
    frames = list(read_recording(written / "recording.parquet"))
    assert np.diff([frame.timestamp for frame in frames]).tolist() == [25] * 11
    assert frames[0].header("captured-at") == "2026-03-02T06:00:00.000Z"
    for partition in (0, 1):
        assert [frame.offset for frame in frames if frame.partition == partition] == list(range(6))
        positions = [int(frame.header("position-mm") or -1) for frame in frames if frame.partition == partition]
        assert positions == [320 * step for step in range(6)]


def test_the_truth_names_the_defective_frames_and_their_masks(written: Path) -> None:
    rows = truth_rows(written)
    assert len({row["ImageId"] for row in rows}) == 8
    assert {row["ClassId"] for row in rows} == {"1", "2", "3", "4"}
    labelled = {frame.frame_id: frame.strip for frame in recording.labelled_frames(3, 12, 8)}
    for row in rows:
        mask = decode(row["EncodedPixels"], 256, 1600)
        assert np.array_equal(mask, labelled[row["ImageId"]].masks[int(row["ClassId"]) - 1])


def test_every_class_has_its_share_of_forty_defective_frames() -> None:
    plan = recording.schedule(80, 40, 990001)
    assert sum(1 for classes in plan if classes) == 40
    for number in (1, 2, 3, 4):
        assert sum(number in classes for classes in plan) >= 8


def test_more_defective_frames_than_frames_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--defective 5"):
        recording.write(tmp_path, seed=1, frames=4, defective=5)
    with pytest.raises(SystemExit):
        recording.main(["--seed", "1", "--frames", "4", "--defective", "5", "--output", str(tmp_path)])
