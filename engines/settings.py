"""Everything that can change a verdict beside the models: the definition's defaults with the user's overrides."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from engines.definition import DIGEST_LENGTH, CascadeDefinition
from engines.errors import UsageError
from engines.results import Regions


@dataclass(frozen=True, slots=True)
class ClassOverrides:
    """A user's changes of one class; None keeps the definition's value."""

    name: str | None = None
    threshold: float | None = None
    mask_threshold: float | None = None
    min_area_px: int | None = None


@dataclass(frozen=True, slots=True)
class CascadeOverrides:
    """A user's changes of a cascade; None keeps the definition's value. ``classes`` is keyed by class id.

    ``regions``: one defect per class of a frame, or one per 8-connected region.
    """

    gate_threshold: float | None = None
    classes: Mapping[int, ClassOverrides] = field(default_factory=dict)
    regions: Regions = "class"


@dataclass(frozen=True, slots=True)
class ClassSettings:
    """The values in force for one class. ``min_area_px`` counts frame pixels."""

    id: int
    name: str
    threshold: float
    mask_threshold: float
    min_area_px: int


@dataclass(frozen=True, slots=True)
class CascadeSettings:
    """The values in force. ``classes`` has the order of the definition."""

    gate_threshold: float
    classes: tuple[ClassSettings, ...]
    regions: Regions

    def digest(self, **more: object) -> str:
        """The digest that names these settings; ``more`` are further values that can change a verdict."""
        text = json.dumps({**asdict(self), **more}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]


def effective_settings(definition: CascadeDefinition, overrides: CascadeOverrides | None = None) -> CascadeSettings:
    """The definition's defaults where ``overrides`` has nothing.

    Raises :class:`UsageError` where an override names a class that the cascade lacks, or a value is out of its range.
    """
    overrides = overrides or CascadeOverrides()
    known = {item.id for item in definition.classes}
    for class_id in overrides.classes:
        if class_id not in known:
            listed = ", ".join(map(str, sorted(known)))
            raise UsageError(f"cascade {definition.name} has no class {class_id}, only {listed}")
    gate = definition.gate.threshold if overrides.gate_threshold is None else overrides.gate_threshold
    if not 0 <= gate <= 1:
        raise UsageError(f"the gate's threshold is {gate}, not 0 to 1")
    classes = []
    for item in definition.classes:
        change = overrides.classes.get(item.id, ClassOverrides())
        settings = ClassSettings(
            id=item.id,
            name=item.name if change.name is None else change.name,
            threshold=item.threshold if change.threshold is None else change.threshold,
            mask_threshold=item.mask_threshold if change.mask_threshold is None else change.mask_threshold,
            min_area_px=item.min_area_px if change.min_area_px is None else change.min_area_px,
        )
        if not 0 <= settings.threshold <= 1:
            raise UsageError(f"class {item.id}: threshold is {settings.threshold}, not 0 to 1")
        if not 0 < settings.mask_threshold < 1:
            raise UsageError(f"class {item.id}: mask_threshold is {settings.mask_threshold}, not between 0 and 1")
        if settings.min_area_px < 0:
            raise UsageError(f"class {item.id}: min_area_px is {settings.min_area_px}, less than 0")
        classes.append(settings)
    return CascadeSettings(gate_threshold=gate, classes=tuple(classes), regions=overrides.regions)
