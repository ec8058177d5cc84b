"""Pictures as files."""

from __future__ import annotations

from pathlib import Path

import cv2

from daemon.pictures.overlay import Picture
from engines.errors import UsageError

JPEG_QUALITY = 92
"""Of annotated pictures: thin coloured lines on fine texture show blocks much below."""


def make_folder(folder: Path) -> Path:
    """The folder, made where it is missing. Raises :class:`UsageError` where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot make this folder: {error.strerror}") from None
    return folder


def save_picture(path: Path, picture: Picture) -> None:
    """Write a picture, BGR uint8 ``[height, width, 3]``, as JPEG. Raises :class:`UsageError` where that cannot be."""
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    try:
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise UsageError(f"{path}: cannot write this picture: {error.strerror}") from None
