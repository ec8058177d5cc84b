"""What the cores allow: how long one thread decodes and computes, at the shares of the workload."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from daemon.decoding import frame_decoder
from daemon.frames import Frame
from daemon.inspector import cascade_overrides, image_limits
from daemon.settings import Settings
from engines import images
from engines.backend import Slot
from engines.backends import open_compiler
from engines.definition import load_definition
from engines.errors import EngineError
from engines.manifest import check_fit, engines_folder
from engines.settings import CascadeSettings, effective_settings

WARM_UP_FRAMES = 8


@dataclass(slots=True)
class PartTimes:
    """Seconds and runs of decoding (``decode``) and of every stage (its key)."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    runs: Counter[str] = field(default_factory=Counter)

    @property
    def total_s(self) -> float:
        """All of it, in seconds of one thread."""
        return sum(self.seconds.values())

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add the time of the body to a part."""
        started = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - started
        self.runs[part] += 1


def measure_parts(settings: Settings, frames: Sequence[Frame]) -> PartTimes:
    """Decode and inspect all frames with one thread at batch 1, on the service's own engines; times of the parts only.

    Raises :class:`EngineError` where the engines are not built.
    """
    definition = load_definition(settings.cascade)
    thresholds = effective_settings(definition, cascade_overrides(settings))
    engine = settings.engine
    compiler = open_compiler(engine.backend, engine.device, engine.hardware_compatibility)
    fit = check_fit(settings.engine.directory, definition, compiler, bit_depth=settings.input.bit_depth)
    if fit.manifest is None:
        raise EngineError(f"{fit.problem}: run millwatch build-engines")
    decode = frame_decoder(image_limits(settings), require_crc32c=settings.input.require_crc32c)
    folder = engines_folder(settings.engine.directory, definition, compiler.device.backend)
    runtime = compiler.open(definition, fit.manifest.engine_files(folder), slots=1, max_frames=1, threads=1)
    try:
        with runtime.slots[0] as slot:
            for frame in frames[:WARM_UP_FRAMES]:
                _inspect(slot, decode(frame), _passing(thresholds), PartTimes())
            times = PartTimes()
            for frame in frames:
                with times.timed("decode"):
                    image = decode(frame)
                _inspect(slot, image, thresholds, times)
    finally:
        runtime.close()
    return times


def _passing(settings: CascadeSettings) -> CascadeSettings:
    """Thresholds at which every frame goes through every stage: one that first runs while the clock does is slow."""
    classes = tuple(replace(of_class, threshold=0.0) for of_class in settings.classes)
    return replace(settings, gate_threshold=0.0, classes=classes)


def _inspect(slot: Slot, image: images.Frame, thresholds: CascadeSettings, times: PartTimes) -> None:
    slot.load([image])
    only = np.zeros(1, np.int64)
    with times.timed("gate"):
        score = slot.gate(only)[0]
    if score < thresholds.gate_threshold:
        return
    with times.timed("classifier"):
        scores = slot.classify(only)[0].tolist()
    for number, of_class in enumerate(thresholds.classes):
        if scores[number] >= of_class.threshold:
            with times.timed(f"segmenter-{of_class.id}"):
                for _ in slot.segment(number, only, of_class.mask_threshold):
                    pass
