"""The part that looks at JPEG decoding: are the GPU's frames those of the processor, and how many a second?"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from itertools import islice
from typing import Final

import numpy as np

from engines.definition import load_definition
from engines.errors import FrameRejectedError
from engines.gpu_jpeg import open_jpeg_decoder
from engines.image_headers import read_header
from engines.images import DecodeJpeg, ImageLimits, decode
from engines.recording import read_recording
from engines.tensorrt.device import device_ordinal
from engines.verification.opening import OpenCompiler
from engines.verification.report import Finding, Plan, Row, SkippedError

MAX_DIFFERENCE: Final = 2
"""Grey levels by which a pixel may differ: inverse transforms of the precision that IEEE 1180 asks for are each off by
at most one level from the exact one."""

LOOKED_AT: Final = 64
"""JPEG frames of the recording that are decoded."""


def compare_decoders(plan: Plan, open_compiler: OpenCompiler) -> Finding:
    """Frames of the recording by both decoders, in one thread: how far they differ, and frames a second of each."""
    del open_compiler
    values = _jpegs(plan)
    if find_spec("nvidia") is None or find_spec("nvidia.nvimgcodec") is None:
        raise SkippedError("nvidia-nvimgcodec-cu13 is not installed, which input.jpeg_decoder: gpu needs")
    rehearsal = plan.backend == "openvino"
    ordinal = 0 if rehearsal else device_ordinal(plan.device)
    with open_jpeg_decoder(1, device=ordinal, codec="cpu" if rehearsal else "gpu") as decoder:
        return compare(values, decoder.decode, plan.seconds)


def compare(values: Sequence[bytes], decode_jpeg: DecodeJpeg, seconds: float) -> Finding:
    """JPEG frames by OpenCV and by ``decode_jpeg``, each timed for so many seconds."""
    limits = ImageLimits(min_pixels=1)
    most, differing, pixels, left = 0, 0, 0, 0
    sizes = []
    for value in values:
        expected = decode(value, limits=limits)
        sizes.append((expected.shape[1], expected.shape[0]))
        found = decode_jpeg(value, *sizes[-1])
        if found is None:
            left += 1
            continue
        difference = np.abs(found.astype(np.int16) - expected)
        most = max(most, int(difference.max()))
        differing += int(np.count_nonzero(difference))
        pixels += difference.size
    asked = list(zip(values, sizes, strict=True))
    figures: list[Row] = [
        {
            "frames": len(values),
            "left_to_the_processor": left,
            "most_grey_levels_off": most,
            "share_of_pixels_off": differing / pixels if pixels else None,
            "processor_frames_per_s": _speed([partial(decode, value, limits=limits) for value in values], seconds),
            "decoder_frames_per_s": _speed([partial(decode_jpeg, value, *size) for value, size in asked], seconds),
        }
    ]
    problems = []
    if left:
        problems.append(f"{left} of {len(values)} frames were not decoded")
    if most > MAX_DIFFERENCE:
        problems.append(f"a pixel is off by {most} grey levels, allowed are {MAX_DIFFERENCE}")
    return Finding(f"at most {most} grey levels off on {len(values)} frames", figures, problems)


def _jpegs(plan: Plan) -> list[bytes]:
    """Whole JPEG frames of the cascade's recording."""
    path = load_definition(plan.cascade).recording_path

    def whole(value: bytes) -> bool:
        try:
            return read_header(value).format == "jpeg" and decode(value, limits=ImageLimits(min_pixels=1)).size > 0
        except FrameRejectedError:
            return False

    recorded = (frame.value or b"" for frame in read_recording(path)) if path is not None else iter(())
    values = list(islice(filter(whole, recorded), LOOKED_AT))
    if not values:
        raise SkippedError("the cascade's recording has no JPEG frame")
    return values


def _speed(calls: Sequence[Callable[[], object]], seconds: float) -> float:
    """Calls a second, in whole rounds."""
    rounds, started = 0, time.perf_counter()
    while not rounds or time.perf_counter() - started < seconds:
        for call in calls:
            call()
        rounds += 1
    return rounds * len(calls) / (time.perf_counter() - started)
