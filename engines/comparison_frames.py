"""The recorded frames on which engines are compared with the reference: at least half of them defective."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from pathlib import Path, PurePosixPath

from engines.agreement import COMPARED_FRAMES
from engines.definition import CascadeDefinition
from engines.errors import EngineError, FrameRejectedError, UsageError
from engines.images import Frame, ImageLimits, decode
from engines.openvino.reference import ReferenceStage
from engines.recording import RecordedFrame, read_recording
from engines.sizes import to_input

Classes = Callable[[RecordedFrame, Frame], set[int]]
"""The ids of the classes that a recorded frame carries; the second argument is the frame at the cascade's size."""


@dataclass(frozen=True, slots=True)
class ComparisonFrames:
    """Frames uint8 ``[height, width]`` of the cascade's input size, ``defective`` of them with a defect."""

    frames: tuple[Frame, ...]
    defective: int


def read_comparison_frames(definition: CascadeDefinition, bit_depth: int) -> ComparisonFrames:
    """Frames of the cascade's recording, at least half of them defective, every class among them that occurs there.

    What is defective is told by the truth beside the recording, and where there is none by the reference's gate and
    classifier. A frame that carries only classes that the cascade lacks is passed over. ``bit_depth`` (8-16) is that of
    data in 16-bit containers, as for :class:`engines.images.ImageLimits`.

    Raises :class:`EngineError` where the cascade names no recording or nothing in it is defective, and
    :class:`UsageError` where recording or truth cannot be read.
    """
    if definition.recording_path is None:
        raise EngineError(
            f"{definition.folder}: no recording to compare engines on: name one as 'recording' in cascade.yaml"
            " (millwatch record makes one)"
        )
    classes_of = _from_truth(definition.truth_path) if definition.truth_path else _from_reference(definition)
    wanted = COMPARED_FRAMES // 2
    clean: list[Frame] = []
    by_class: dict[int, list[Frame]] = {item.id: [] for item in definition.classes}
    for record, frame in _frames(definition, definition.recording_path, bit_depth):
        classes = classes_of(record, frame)
        carried = [by_class[class_id] for class_id in classes if class_id in by_class]
        if classes and not carried:
            # It carries only what the cascade has no segmenter for: neither clean nor a defect of any of its classes.
            continue
        # A frame of several classes stands for the one that has the fewest so far.
        kept = min(carried, key=len) if carried else clean
        if len(kept) < wanted:
            kept.append(frame)
        # A recording may be a whole shift: what follows could change nothing.
        if all(len(kept) == wanted for kept in (clean, *by_class.values())):
            break
    in_turn = chain.from_iterable(zip_longest(*by_class.values()))
    defective = list(islice((frame for frame in in_turn if frame is not None), wanted))
    if not defective:
        raise EngineError(f"{definition.recording_path}: no frame in it is defective, so masks cannot be compared")
    return ComparisonFrames((*defective, *clean[: len(defective)]), len(defective))


def _frames(definition: CascadeDefinition, recording: Path, bit_depth: int) -> Iterator[tuple[RecordedFrame, Frame]]:
    limits = ImageLimits(min_pixels=1, bit_depth=bit_depth)
    for record in read_recording(recording):
        width, height = record.header("width"), record.header("height")
        try:
            frame = decode(
                record.value or b"",
                limits=limits,
                content_type=record.header("content-type"),
                width=int(width) if width and width.isdecimal() else None,
                height=int(height) if height and height.isdecimal() else None,
            )
        except FrameRejectedError:
            # A recording of a real line holds what came over the line; only what can be inspected is compared.
            continue
        yield record, to_input(frame, definition.input)


def _from_truth(path: Path) -> Classes:
    """Classes as a table ``ImageId,ClassId,EncodedPixels`` has them; frames are known by their ``frame-id``."""
    carried: dict[str, set[int]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file):
                if row["EncodedPixels"]:
                    carried.setdefault(_frame_name(row["ImageId"]), set()).add(int(row["ClassId"]))
    except OSError as error:
        raise UsageError(f"{path}: cannot read the truth: {error.strerror}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path}: not a table ImageId,ClassId,EncodedPixels: {error}") from None

    def classes_of(record: RecordedFrame, frame: Frame) -> set[int]:
        del frame
        return carried.get(_frame_name(record.header("frame-id") or ""), set())

    return classes_of


def _frame_name(name: str) -> str:
    """The name without folders and an image's suffix: a table made from files names the same frames as headers do."""
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff"} else path.name


def _from_reference(definition: CascadeDefinition) -> Classes:
    """Classes as the models themselves see them: frames that pass are those on which the later stages work."""
    gate, classifier = (ReferenceStage(stage, definition) for stage in definition.stages[:2])

    def classes_of(record: RecordedFrame, frame: Frame) -> set[int]:
        del record
        if float(gate.scores(frame)) < definition.gate.threshold:
            return set()
        scores = zip(definition.classes, classifier.scores(frame).tolist(), strict=True)
        return {item.id for item, score in scores if score >= item.threshold}

    return classes_of
