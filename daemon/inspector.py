"""The cascade, and the pipeline around it, as the configuration wants them: ``run`` and ``bench`` open them alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from daemon.decoding import frame_decoder, frame_measure
from daemon.pipeline import Observer, Pipeline
from daemon.settings import Settings
from engines.cascade import Cascade, open_cascade
from engines.cores import core_count
from engines.images import DecodeJpeg, ImageLimits
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


@contextmanager
def open_pipeline(settings: Settings, cascade: Cascade, observer: Observer | None = None) -> Iterator[Pipeline]:
    """The pipeline around an opened cascade; its threads and decoders end with the context.

    Raises DeviceError where frames are to be decoded on a GPU that cannot.
    """
    max_frames = min(settings.batch.max_frames, cascade.max_frames)
    capacity = max(MIN_CAPACITY, BATCHES_PER_SLOT * cascade.slots * max_frames)
    with jpeg_decoder(settings) as decode_jpeg:
        pipeline = Pipeline(
            cascade,
            frame_decoder(
                image_limits(settings),
                require_crc32c=settings.input.require_crc32c,
                max_age_s=settings.input.max_age_s,
                decode_jpeg=decode_jpeg,
            ),
            frame_measure(image_limits(settings)),
            decode_threads=_decode_threads(settings),
            max_frames=max_frames,
            max_wait_s=settings.batch.max_wait_ms / 1000,
            capacity=settings.pipeline.max_frames or capacity,
            max_bytes=settings.pipeline.max_bytes,
            observer=observer,
        )
        with pipeline:
            yield pipeline


@contextmanager
def jpeg_decoder(settings: Settings) -> Iterator[DecodeJpeg | None]:
    """What decodes JPEG on a GPU, one decoder for each thread, freed at the end; None where the processor does.

    Raises DeviceError where the GPU or the package is missing, and UsageError where the device is no GPU's name.
    """
    if settings.input.jpeg_decoder == "cpu":
        yield None
        return
    from engines.gpu_jpeg import open_jpeg_decoder
    from engines.tensorrt.device import device_ordinal

    # Engines on the processor may have their frames decoded on the GPU all the same.
    device = "auto" if settings.engine.device.lower() == "cpu" else settings.engine.device
    with open_jpeg_decoder(_decode_threads(settings), device=device_ordinal(device)) as decoder:
        yield decoder.decode


def _decode_threads(settings: Settings) -> int:
    return settings.pipeline.decode_threads or core_count()
