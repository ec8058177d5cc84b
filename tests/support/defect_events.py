"""Defect events for tests that read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daemon.events import SCHEMA, DefectEvent
from engines import rle

Mask = NDArray[np.uint8]


def defect(class_id: int, mask: Mask | None, name: str = "pits", score: float = 0.934) -> dict[str, Any]:
    """A defect as JSON has it; without a mask it has some box and area."""
    region = None if mask is None else rle.whole(np.ascontiguousarray(mask.T))
    assert mask is None or region is not None, "a defect has pixels"
    box = (1, 2, 3, 4) if region is None else (region.box.x, region.box.y, region.box.width, region.box.height)
    return {
        "class": class_id,
        "name": name,
        "score": score,
        "area_px": 1 if region is None else region.area_px,
        "box": box,
        "rle": None if region is None else rle.runs_to_text(region.runs),
    }


def event(
    defects: Sequence[dict[str, Any]] = (), *, height: int = 8, width: int = 12, **changes: str | float | None
) -> DefectEvent:
    """An event with these defects; ``changes`` replaces other values."""
    return DefectEvent.model_validate(
        {
            "schema": SCHEMA,
            "id": "camera.frames-0-1",
            "verdict": "defective" if defects else "clean",
            "camera": "cam-1",
            "frame": "f-1",
            "coil": "C42",
            "position_mm": 1234.5,
            "captured_at": "2026-11-22T10:00:00.000Z",
            "inspected_at": "2026-11-22T10:00:00.041Z",
            "width": width,
            "height": height,
            "scores": {"gate": 0.9, "classes": None},
            "defects": list(defects),
            "engine": {"cascade": "tiny", "hash": "h", "settings": "s", "backend": "openvino"},
            **changes,
        }
    )
