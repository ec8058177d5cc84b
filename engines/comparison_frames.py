"""The recorded frames on which engines are compared with the reference: at least half of them defective."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from typing import Final

import numpy as np

from engines.backend import Frames
from engines.definition import CascadeDefinition
from engines.errors import EngineError, FrameRejectedError
from engines.images import ImageLimits, decode
from engines.openvino.reference import ReferenceStage
from engines.recording import read_recording
from engines.sizes import to_input

COMPARED_FRAMES: Final = 24
"""Frames that are compared at most: enough for every class to occur, few enough for a build of seconds on two cores."""


@dataclass(frozen=True, slots=True)
class ComparisonFrames:
    """Frames uint8 ``[height, width]`` of the cascade's input size, ``defective`` of them with a defect."""

    frames: tuple[Frames, ...]
    defective: int


def read_comparison_frames(definition: CascadeDefinition) -> ComparisonFrames:
    """Frames of the cascade's recording, at least half of them defective, every class among them that occurs there.

    What is defective is decided by the reference's gate and classifier: that needs no truth, and frames that pass them
    are those on which the later stages work. Raises :class:`EngineError` where the cascade names no recording or the
    gate passes none of its frames, and :class:`engines.errors.UsageError` where the recording cannot be read.
    """
    if definition.recording_path is None:
        raise EngineError(
            f"{definition.folder}: no recording to compare engines on: name one as 'recording' in cascade.yaml"
            " (millwatch record makes one)"
        )
    wanted = COMPARED_FRAMES // 2
    gate, classifier = (ReferenceStage(stage, definition) for stage in definition.stages[:2])
    thresholds = np.array([item.threshold for item in definition.classes])
    clean: list[Frames] = []
    # Frames that pass the gate by their strongest class; the last list is for those that no class claims.
    by_class: list[list[Frames]] = [[] for _ in (*definition.classes, None)]
    for frame in _frames(definition):
        if float(gate.scores(frame)) < definition.gate.threshold:
            kept = clean
        else:
            margins = classifier.scores(frame) - thresholds
            kept = by_class[int(margins.argmax()) if margins.max() >= 0 else -1]
        if len(kept) < wanted:
            kept.append(frame)
    in_turn = chain.from_iterable(zip_longest(*by_class))
    defective = list(islice((frame for frame in in_turn if frame is not None), wanted))
    if not defective:
        raise EngineError(f"{definition.recording_path}: the gate passes no frame of it, so masks cannot be compared")
    return ComparisonFrames((*defective, *clean[: len(defective)]), len(defective))


def _frames(definition: CascadeDefinition) -> Iterator[Frames]:
    assert definition.recording_path is not None
    limits = ImageLimits(min_pixels=1)
    for record in read_recording(definition.recording_path):
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
        yield to_input(frame, definition.input)
