"""Pictures in a folder."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from daemon.pictures.files import PictureFolder
from engines.errors import UsageError

PICTURE = np.full((20, 30, 3), (10, 90, 200), np.uint8)


def test_a_picture_is_written_as_jpeg(tmp_path: Path):
    path = PictureFolder(tmp_path / "a" / "b").save("f-1", PICTURE)
    assert path == tmp_path / "a" / "b" / "f-1.jpg"
    assert path.read_bytes().startswith(b"\xff\xd8\xff")
    decoded = cv2.imread(str(path))
    assert decoded is not None
    assert np.abs(decoded.astype(int) - PICTURE).max() <= 6


def test_a_name_that_comes_again_gets_a_number(tmp_path: Path):
    pictures = PictureFolder(tmp_path)
    assert [pictures.save("f", PICTURE).name for _ in range(3)] == ["f.jpg", "f-2.jpg", "f-3.jpg"]


@pytest.mark.parametrize("name", ["../../etc/passwd", "/abs", "..", ".hidden", "a\nb", "", "x" * 500, "ä" * 300])
def test_no_name_leaves_the_folder(tmp_path: Path, name: str):
    path = PictureFolder(tmp_path).save(name, PICTURE)
    assert path.parent == tmp_path
    assert path.is_file()
    assert not path.name.startswith(".")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot make this folder"):
        PictureFolder(tmp_path / "file" / "pictures")


def test_a_picture_that_cannot_be_written_is_named(tmp_path: Path):
    pictures = PictureFolder(tmp_path)
    (tmp_path / "f.jpg").mkdir()
    with pytest.raises(UsageError, match=r"f\.jpg: cannot write this picture"):
        pictures.save("f", PICTURE)
