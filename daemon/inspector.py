"""The cascade, and the pipeline around it, as the configuration wants them: ``run`` and ``bench`` open them alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.decoding import frame_decoder, frame_measure
from daemon.pipeline import Observer, Pipeline
from daemon.settings import Settings
from engines.cascade import Cascade, open_cascade
from engines.cores import core_count
from engines.images import ImageLimits
from engines.settings import CascadeOverrides, ClassOverrides

if TYPE_CHECKING:
    from engines.build import Progress

BATCHES_PER_SLOT = 8
"""Frames held at once, in batches for each slot: enough to bridge a commit, few enough to keep latency low."""

MIN_CAPACITY = 96
"""Frames held at once at the least: three polls' worth, so that one is inspected while the next is fetched."""


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


def open_inspector(settings: Settings, progress: Progress | None = None, *, threads: int | None = None) -> Cascade:
    """The cascade with its engines; builds them first where that is allowed and needed.

    ``threads`` is the processor's threads for inference, all cores where it is None; a GPU ignores it.
    Raises EngineError, DeviceError, or UsageError for a cascade that cannot be read.
    """
    engine = settings.engine
    return open_cascade(
        settings.cascade,
        backend=engine.backend,
        device=engine.device,
        hardware_compatibility=engine.hardware_compatibility,
        directory=engine.directory,
        rebuild=engine.rebuild,
        max_frames=settings.batch.max_frames,
        slots=engine.slots,
        threads=threads,
        overrides=cascade_overrides(settings),
        bit_depth=settings.input.bit_depth,
        progress=progress,
    )


def open_pipeline(settings: Settings, cascade: Cascade, observer: Observer | None = None) -> Pipeline:
    """The pipeline around an opened cascade; its threads run until it is closed."""
    max_frames = min(settings.batch.max_frames, cascade.max_frames)
    capacity = max(MIN_CAPACITY, BATCHES_PER_SLOT * cascade.slots * max_frames)
    return Pipeline(
        cascade,
        frame_decoder(
            image_limits(settings),
            require_crc32c=settings.input.require_crc32c,
            max_age_s=settings.input.max_age_s,
        ),
        frame_measure(image_limits(settings)),
        decode_threads=settings.pipeline.decode_threads or core_count(),
        max_frames=max_frames,
        max_wait_s=settings.batch.max_wait_ms / 1000,
        capacity=settings.pipeline.max_frames or capacity,
        max_bytes=settings.pipeline.max_bytes,
        observer=observer,
    )
