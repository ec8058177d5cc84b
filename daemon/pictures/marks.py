"""Events and true masks as something to draw and to count."""

from __future__ import annotations

from collections.abc import Mapping

import cv2

from daemon.events import DefectEvent
from daemon.pictures.overlay import Mark
from engines import rle
from engines.results import Box


def event_marks(event: DefectEvent) -> list[Mark]:
    """A mark for each defect of an event; one whose mask was omitted has only its box.

    Raises :class:`engines.errors.UsageError` where run lengths do not fit the frame's size.
    """
    return [
        Mark(
            class_id=defect.class_id,
            label=f"{defect.class_id} {defect.name} {defect.score:.2f}",
            box=Box(*defect.box),
            mask=None if defect.rle is None else rle.decode(defect.rle, event.height, event.width),
        )
        for defect in event.defects
    ]


def event_masks(event: DefectEvent) -> dict[int, rle.Mask]:
    """The found mask of each class, uint8 0/1 ``[height, width]``: all its defects together.

    Omitted masks count as nothing found. Raises as :func:`event_marks` does.
    """
    masks: dict[int, rle.Mask] = {}
    for mark in event_marks(event):
        if mark.mask is not None:
            masks[mark.class_id] = masks[mark.class_id] | mark.mask if mark.class_id in masks else mark.mask
    return masks


def truth_marks(masks: Mapping[int, rle.Mask], names: Mapping[int, str]) -> list[Mark]:
    """A mark for each class that is truly there, from its mask, uint8 ``[height, width]``."""
    return [
        Mark(
            class_id=class_id,
            label=f"true {class_id} {names.get(class_id, '')}".rstrip(),
            box=Box(*(int(value) for value in cv2.boundingRect(mask))),
            mask=mask,
        )
        for class_id, mask in sorted(masks.items())
        if mask.any()
    ]
