"""The cascade as the configuration wants it: what ``run``, ``inspect`` and ``bench`` open alike."""

from __future__ import annotations

from collections.abc import Callable

from daemon.settings import Settings
from engines.cascade import Cascade, open_cascade
from engines.images import ImageLimits
from engines.settings import CascadeOverrides, ClassOverrides


def image_limits(settings: Settings) -> ImageLimits:
    """What a frame may be."""
    values = settings.input
    return ImageLimits(
        min_pixels=values.min_pixels,
        max_pixels=values.max_pixels,
        max_bytes=values.max_bytes,
        bit_depth=values.bit_depth,
    )


def cascade_overrides(settings: Settings) -> CascadeOverrides:
    """The thresholds, areas, names and regions that the configuration changes."""
    return CascadeOverrides(
        gate_threshold=settings.gate.threshold,
        classes={
            number: ClassOverrides(
                name=values.name,
                threshold=values.threshold,
                mask_threshold=values.mask_threshold,
                min_area_px=values.min_area_px,
            )
            for number, values in settings.classes.items()
        },
        regions=settings.events.regions,
    )


def open_inspector(settings: Settings, progress: Callable[[str], None] | None = None) -> Cascade:
    """The cascade with its engines; builds them first where that is allowed and needed.

    Raises EngineError, DeviceError, or UsageError for a cascade that cannot be read.
    """
    engine = settings.engine
    return open_cascade(
        settings.cascade,
        backend=engine.backend,
        device=engine.device,
        directory=engine.directory,
        rebuild=engine.rebuild,
        max_frames=settings.batch.max_frames,
        slots=engine.slots,
        overrides=cascade_overrides(settings),
        bit_depth=settings.input.bit_depth,
        progress=progress,
    )
