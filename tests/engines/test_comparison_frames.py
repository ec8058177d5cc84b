"""Which recorded frames engines are compared on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from engines import comparison_frames
from engines.agreement import COMPARED_FRAMES
from engines.comparison_frames import ComparisonFrames, read_comparison_frames
from engines.definition import CascadeDefinition, load_definition
from engines.errors import EngineError, UsageError
from engines.recording import RecordedFrame, write_recording
from tests.support.tiny_cascade import GREY, frame_with, write_tiny_cascade


def record(number: int, frame: np.ndarray) -> RecordedFrame:
    value = cv2.imencode(".png", frame)[1].tobytes()
    return RecordedFrame(b"cam-1", value, (("frame-id", f"f-{number}.png".encode()),), number, 0, number)


def write(folder: Path, frames: list[RecordedFrame], truth: str | None = None) -> CascadeDefinition:
    write_tiny_cascade(folder)
    write_recording(folder / "recording.parquet", frames)
    if truth is not None:
        path = folder / "cascade.yaml"
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "truth": "truth.csv"}))
        (folder / "truth.csv").write_text("ImageId,ClassId,EncodedPixels\n" + truth)
    return load_definition(folder)


def chosen_from(definition: CascadeDefinition, bit_depth: int = 16) -> ComparisonFrames:
    return read_comparison_frames(definition, bit_depth)


def carried(frame: np.ndarray) -> set[int]:
    return {class_id for class_id, grey in GREY.items() if (frame == grey).any()}


def test_half_are_defective_and_rare_classes_among_them(tmp_path: Path) -> None:
    frames = [record(number, frame_with({1: [(5, 5, 30, 30)]} if number % 2 else {})) for number in range(100)]
    frames += [record(100 + class_id, frame_with({class_id: [(5, 5, 30, 30)]})) for class_id in (2, 3, 4)]
    chosen = chosen_from(write(tmp_path, frames))
    assert len(chosen.frames) == COMPARED_FRAMES
    assert chosen.defective == COMPARED_FRAMES // 2
    classes = [carried(frame) for frame in chosen.frames]
    assert sum(map(bool, classes)) == chosen.defective
    assert set().union(*classes) == {1, 2, 3, 4}


def test_clean_frames_are_never_more_than_defective_ones(tmp_path: Path) -> None:
    frames = [record(number, frame_with()) for number in range(30)]
    frames.append(record(30, frame_with({3: [(0, 0, 40, 40)]})))
    chosen = chosen_from(write(tmp_path, frames))
    assert (len(chosen.frames), chosen.defective) == (2, 1)


def test_nothing_is_read_once_every_class_has_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = COMPARED_FRAMES // 2
    kinds = [{}, *({class_id: [(5, 5, 30, 30)]} for class_id in GREY)]
    definition = write(tmp_path, [])

    def recording(path: Path) -> Iterator[RecordedFrame]:
        for number in range(wanted):
            yield from (record(number, frame_with(patches)) for patches in kinds)
        pytest.fail("read on")

    monkeypatch.setattr(comparison_frames, "read_recording", recording)
    assert len(chosen_from(definition).frames) == COMPARED_FRAMES


def test_the_truth_decides_where_there_is_one(tmp_path: Path) -> None:
    frames = [record(number, frame_with({1: [(5, 5, 30, 30)]})) for number in range(4)]
    chosen = chosen_from(write(tmp_path, frames, "f-2,1,1 5\nf-1,1,\nother,2,1 9\n"))
    assert (len(chosen.frames), chosen.defective) == (2, 1)


def test_a_frame_of_classes_that_the_cascade_lacks_is_passed_over(tmp_path: Path) -> None:
    frames = [record(number, frame_with({1: [(number, 5, 30, 30)]})) for number in range(3)]
    definition = write(tmp_path, frames, "f-0,9,1 5\nf-1,1,1 5\nf-1,9,1 5\n")
    chosen = chosen_from(definition)
    # Of the three the second is defective, the last clean, and the first neither.
    assert [int(np.flatnonzero((frame == GREY[1]).any(axis=0))[0]) for frame in chosen.frames] == [1, 2]
    assert chosen.defective == 1


@pytest.mark.parametrize(("bits", "clean"), [(12, 128), (16, 8)])
def test_frames_are_as_bright_as_the_camera_s_depth_makes_them(tmp_path: Path, bits: int, clean: int) -> None:
    grey = (frame_with({1: [(5, 5, 30, 30)]}).astype(np.float64) / 255 * 4095).astype(np.uint16)
    chosen = chosen_from(write(tmp_path, [record(0, grey)], "f-0,1,1 5\n"), bits)
    assert int(chosen.frames[0].max()) == pytest.approx(clean, abs=1)


def test_frames_that_cannot_be_inspected_are_passed_over(tmp_path: Path) -> None:
    raw = frame_with({4: [(9, 9, 20, 20)]}, 32, 80)
    headers = (("content-type", b"application/x-gray8"), ("width", b"80"), ("height", b"32"))
    frames = [
        RecordedFrame(None, b"text", (), 0, 0, 0),
        RecordedFrame(None, None, (), 0, 0, 1),
        RecordedFrame(None, raw.tobytes(), headers, 0, 0, 2),
    ]
    chosen = chosen_from(write(tmp_path, frames))
    assert len(chosen.frames) == 1
    assert chosen.frames[0].shape == (64, 160)


def test_a_recording_without_a_defect_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no frame in it is defective"):
        chosen_from(write(tmp_path, [record(0, frame_with())]))


@pytest.mark.parametrize("table", ["f-1,one,1 5\n", "f-1,,1 5\n"])
def test_a_truth_that_is_no_table_is_refused(tmp_path: Path, table: str) -> None:
    with pytest.raises(UsageError, match=r"truth\.csv: not a table"):
        chosen_from(write(tmp_path, [record(0, frame_with())], table))
