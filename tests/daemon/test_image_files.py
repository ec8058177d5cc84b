"""Files as commands take them."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.image_files import CONTENT_TYPES, find_files
from engines.errors import UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b/2.png", "b/10.JPG", "a.tiff", "notes.txt", "b/recording.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def test_a_folder_stands_for_the_images_below_it_sorted(folder: Path):
    names = [str(path.relative_to(folder)) for path in find_files([folder], CONTENT_TYPES)]
    assert names == ["a.tiff", "b/10.JPG", "b/2.png"]


def test_named_files_keep_their_order_and_may_be_of_any_kind(folder: Path):
    paths = [folder / "notes.txt", folder / "a.tiff"]
    assert find_files(paths, CONTENT_TYPES) == paths


@pytest.mark.parametrize(("name", "said"), [("absent", "no such file or folder"), ("empty", "no frames")])
def test_a_path_without_frames_is_named(folder: Path, name: str, said: str):
    (folder / "empty").mkdir()
    with pytest.raises(UsageError, match=rf"{name}: {said}"):
        find_files([folder / name], CONTENT_TYPES)
