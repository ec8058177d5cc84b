"""Image files through the cascade, batch by batch, each with its event and, if wanted, its picture."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from daemon.events import DefectEvent, event_of
from daemon.frames import UNKNOWN_CAMERA, FrameMeta
from daemon.image_files import CONTENT_TYPES, find_files
from daemon.pictures.files import save_picture
from daemon.pictures.marks import event_marks, truth_marks
from daemon.pictures.overlay import Grey, draw
from daemon.truth import TruthTable
from engines.cascade import Cascade
from engines.errors import FrameRejectedError, UsageError
from engines.images import ImageLimits, decode


@dataclass(frozen=True, slots=True)
class InspectedFile:
    """An image with what the cascade says of it; ``pixels`` uint8 ``[height, width]``."""

    path: Path
    pixels: Grey
    event: DefectEvent


@dataclass(frozen=True, slots=True)
class RejectedFile:
    """An image that cannot be inspected, and why."""

    path: Path
    problem: str


@dataclass(frozen=True, slots=True)
class _Image:
    path: Path
    pixels: Grey
    taken_ms: int


def inspect_files(
    paths: Iterable[Path], cascade: Cascade, limits: ImageLimits
) -> Iterator[InspectedFile | RejectedFile]:
    """Inspect images, or all images below folders, in their order.

    Raises InferenceError or DeviceError where the cascade fails; anything wrong with a file is its own result.
    """
    images = _load(paths, limits)
    while batch := list(islice(images, cascade.max_frames)):
        whole = [image for image in batch if isinstance(image, _Image)]
        inspections = iter(cascade.inspect([image.pixels for image in whole]))
        inspected_ms = round(time.time() * 1000)
        for image in batch:
            if isinstance(image, RejectedFile):
                yield image
            else:
                event = event_of(_meta(image), next(inspections), cascade.identity, inspected_ms)
                yield InspectedFile(image.path, image.pixels, event.model_copy(update={"id": str(image.path)}))


class FilePictures:
    """Writes pictures into a folder that is there, one per image."""

    def __init__(self, folder: Path, truth: TruthTable | None, names: Mapping[int, str]) -> None:
        """``truth`` has the true masks to draw, ``names`` the names of its classes."""
        self._folder = folder
        self._truth = truth
        self._names = names
        self._taken: set[str] = set()

    def save(self, inspected: InspectedFile) -> Path:
        """Write an image with its defects drawn in; ``NAME.jpg``, with a number where the name came before.

        Raises :class:`UsageError` where it cannot be written, or a true mask does not fit.
        """
        event = inspected.event
        true_masks = {} if self._truth is None else self._truth.masks(inspected.path.name, event.height, event.width)
        picture = draw(inspected.pixels, event_marks(event), truth_marks(true_masks, self._names))
        path = self._folder / f"{self._free_name(inspected.path.stem)}.jpg"
        save_picture(path, picture)
        return path

    def _free_name(self, stem: str) -> str:
        name, number = stem, 1
        while name in self._taken:
            number += 1
            name = f"{stem}-{number}"
        self._taken.add(name)
        return name


def _load(paths: Iterable[Path], limits: ImageLimits) -> Iterator[_Image | RejectedFile]:
    for path in paths:
        try:
            files = find_files([path], CONTENT_TYPES)
        except UsageError as error:
            yield RejectedFile(path, str(error).removeprefix(f"{path}: "))
            continue
        for file in files:
            try:
                yield _Image(file, decode(file.read_bytes(), limits=limits), round(file.stat().st_mtime * 1000))
            except FrameRejectedError as error:
                yield RejectedFile(file, str(error))
            except OSError as error:
                yield RejectedFile(file, f"cannot be read: {error.strerror}")


def _meta(image: _Image) -> FrameMeta:
    """As of a frame that a camera sent, so that events of files and of frames are made by the same code."""
    return FrameMeta(
        topic="file",
        partition=0,
        offset=0,
        timestamp_ms=image.taken_ms,
        captured_at_ms=image.taken_ms,
        key=None,
        camera=UNKNOWN_CAMERA,
        frame_id=image.path.stem,
        coil=None,
        position_mm=None,
        headers=(),
    )
