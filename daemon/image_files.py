"""Image files and recordings on disk, as the commands take them: single files, or folders with all below them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from engines.errors import UsageError

CONTENT_TYPES = {
    ".bmp": "image/bmp",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
}
"""By lower-case suffix."""

RECORDING_SUFFIX = ".parquet"


def find_files(paths: Iterable[Path], suffixes: Iterable[str]) -> list[Path]:
    """The files named by ``paths`` in their order; a folder stands for all files below it with one of the suffixes.

    Files of a folder are sorted by path. A file that is named itself is taken whatever its suffix is. Raises
    :class:`UsageError` for a path that is not there and for a folder without any such file.
    """
    wanted = frozenset(suffixes)
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.suffix.lower() in wanted and file.is_file())
            if not found:
                raise UsageError(f"{path}: no frames in this folder; looked for {', '.join(sorted(wanted))}")
            files += found
        elif path.exists():
            files.append(path)
        else:
            raise UsageError(f"{path}: no such file or folder")
    return files
