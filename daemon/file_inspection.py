"""Image files through the cascade, batch by batch, each with its event."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from daemon.events import DefectEvent, event_of
from daemon.frames import UNKNOWN_CAMERA, FrameMeta
from daemon.image_files import CONTENT_TYPES, find_files
from daemon.pictures.marks import event_marks, truth_marks
from daemon.pictures.overlay import Grey, Picture, draw
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
        inspections = iter(cascade.inspect([image.pixels for image in whole]) if whole else ())
        inspected_ms = round(time.time() * 1000)
        for image in batch:
            if isinstance(image, RejectedFile):
                yield image
            else:
                event = event_of(_meta(image), next(inspections), cascade.identity, inspected_ms)
                yield InspectedFile(image.path, image.pixels, event.model_copy(update={"id": str(image.path)}))


def draw_file(inspected: InspectedFile, truth: TruthTable | None, names: Mapping[int, str]) -> Picture:
    """An image, BGR uint8 ``[height, width, 3]``, with what was found and, in another style, what ``truth`` has of it.

    ``names`` are those of the classes. Raises :class:`UsageError` where a true mask does not fit.
    """
    event = inspected.event
    masks = {} if truth is None else truth.masks(inspected.path.name, event.height, event.width)
    return draw(inspected.pixels, event_marks(event), truth_marks(masks, names))


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
