"""Tables of true masks."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.truth import read_truth
from engines.errors import UsageError


def table(tmp_path: Path, *rows: str, header: str = "ImageId,ClassId,EncodedPixels") -> Path:
    path = tmp_path / "truth.csv"
    path.write_text("\n".join((header, *rows)) + "\n")
    return path


def test_masks_by_class_of_a_frame(tmp_path: Path):
    truth = read_truth(table(tmp_path, "a.jpg,3,1 2", "a.jpg,1,5 1", "b.jpg,2,4 1"))
    masks = truth.masks("a", height=2, width=3)
    assert {class_id: mask.tolist() for class_id, mask in masks.items()} == {
        1: [[0, 0, 1], [0, 0, 0]],
        3: [[1, 0, 0], [1, 0, 0]],
    }
    assert len(truth) == 2


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a", "folder/a.PNG"])
def test_a_frame_is_known_by_name_or_stem(tmp_path: Path, name: str):
    assert list(read_truth(table(tmp_path, "a.jpg,1,1 1")).masks(name, 2, 2)) == [1]


def test_only_an_image_suffix_is_left_out(tmp_path: Path):
    truth = read_truth(table(tmp_path, "C42.1,1,1 1"))
    assert list(truth.masks("C42.1", 2, 2)) == [1]
    assert truth.masks("C42.2", 2, 2) == {}


def test_frames_without_rows_and_rows_without_pixels_have_no_defect(tmp_path: Path):
    truth = read_truth(table(tmp_path, "a.jpg,1,"))
    assert truth.masks("a", 2, 2) == {}
    assert truth.masks("b", 2, 2) == {}
    assert truth.masks(None, 2, 2) == {}


def test_a_mask_that_does_not_fit_names_its_frame(tmp_path: Path):
    truth = read_truth(table(tmp_path, "a.jpg,1,4 9"))
    with pytest.raises(UsageError, match=r"truth\.csv: a, class 1: run lengths end at pixel 12"):
        truth.masks("a", 2, 3)


@pytest.mark.parametrize("class_id", ["", "x", "0", "-1"])
def test_a_wrong_class_names_its_line(tmp_path: Path, class_id: str):
    with pytest.raises(UsageError, match=r"truth\.csv:3: class .* is not a number from 1"):
        read_truth(table(tmp_path, "a.jpg,1,1 1", f"a.jpg,{class_id},1 1"))


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "folder/a.jpg"])
def test_a_second_mask_of_a_class_names_its_line(tmp_path: Path, name: str):
    with pytest.raises(UsageError, match=r"truth\.csv:4: .*a\.\w+ has class 1 twice: write one mask per class"):
        read_truth(table(tmp_path, "a.jpg,1,1 1", "a.jpg,2,1 1", f"{name},1,3 1"))


def test_what_is_not_a_table_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="no such table"):
        read_truth(tmp_path / "absent.csv")
    with pytest.raises(UsageError, match="column 'EncodedPixels' is missing"):
        read_truth(table(tmp_path, "a,1", header="ImageId,ClassId"))
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(UsageError, match="not a table of true masks"):
        read_truth(binary)
