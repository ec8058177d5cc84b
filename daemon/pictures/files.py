"""Pictures as files."""

from __future__ import annotations

import re
from pathlib import Path

import cv2

from daemon.pictures.overlay import Picture
from engines.errors import UsageError

JPEG_QUALITY = 92
"""Of annotated pictures: thin coloured lines on fine texture show blocks much below."""

MAX_NAME = 100
"""Characters kept of a name; file systems end at 255 bytes."""


class PictureFolder:
    """A folder of pictures, each named after what it shows; made where it is missing."""

    def __init__(self, folder: Path) -> None:
        """Raises :class:`UsageError` where the folder cannot be made."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{folder}: cannot make this folder: {error.strerror}") from None
        self._folder = folder
        self._taken: set[str] = set()

    def save(self, name: str, picture: Picture) -> Path:
        """Write a picture, BGR uint8 ``[height, width, 3]``, as ``NAME.jpg``; a name that comes again gets a number.

        Characters that may mean something to a shell or in a path become underscores. Raises :class:`UsageError` where
        the file cannot be written.
        """
        path = self._folder / f"{self._free(name)}.jpg"
        _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        try:
            path.write_bytes(data.tobytes())
        except OSError as error:
            raise UsageError(f"{path}: cannot write this picture: {error.strerror}") from None
        return path

    def _free(self, name: str) -> str:
        plain = re.sub(r"[^A-Za-z0-9._-]", "_", name[:MAX_NAME]).lstrip(".") or "frame"
        free, number = plain, 1
        while free in self._taken:
            number += 1
            free = f"{plain}-{number}"
        self._taken.add(free)
        return free
