"""Inspection from memory, without a broker: what the cascade can do alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from daemon.bench.result import Measured
from daemon.decoding import frame_decoder
from daemon.frames import Frame
from daemon.inspector import image_limits, open_pipeline
from daemon.pipeline import Finished, Rejection
from daemon.settings import Settings
from engines.cascade import Cascade
from engines.errors import UsageError

WARM_UP_FRAMES = 16
"""Inspected before the clock starts: a first inference allocates what later ones use."""

PATIENCE_S = 60.0
"""Longest wait for one batch."""


def inspect_in_pipeline(settings: Settings, cascade: Cascade, frames: Sequence[Frame]) -> Measured:
    """Decode and inspect all frames in the pipeline that ``run`` uses, always kept full."""
    with open_pipeline(settings, cascade) as pipeline:

        def inspect_all(given: Sequence[Frame]) -> None:
            taken = 0
            for frame in given:
                while not pipeline.room:
                    taken += _accepted(pipeline.take(PATIENCE_S))
                pipeline.put(frame)
            while taken < len(given):
                taken += _accepted(pipeline.take(PATIENCE_S))

        return _timed(inspect_all, frames)


def inspect_one_by_one(settings: Settings, cascade: Cascade, frames: Sequence[Frame]) -> Measured:
    """Decode a frame, inspect it, and only then take the next one: the plain loop."""
    decode = frame_decoder(image_limits(settings), require_crc32c=settings.input.require_crc32c)

    def inspect_all(given: Sequence[Frame]) -> None:
        for frame in given:
            cascade.inspect([decode(frame)])

    return _timed(inspect_all, frames)


def _timed(inspect_all: Callable[[Sequence[Frame]], None], frames: Sequence[Frame]) -> Measured:
    inspect_all(frames[:WARM_UP_FRAMES])
    started, cpu_started = time.perf_counter(), time.process_time()
    inspect_all(frames)
    return Measured(len(frames), time.perf_counter() - started, time.process_time() - cpu_started)


def _accepted(finished: Sequence[Finished]) -> int:
    for item in finished:
        if isinstance(item.outcome, Rejection):
            raise UsageError(f"the recording cannot be inspected: {item.outcome.reason}: {item.outcome.detail}")
    return len(finished)
