"""Frames from their bytes: any camera's encoded image, or raw grey, to ``uint8 [height, width]``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.errors import FrameRejectedError
from engines.image_headers import ImageFormat, ImageHeader, check_complete, read_header, without_orientation

__all__ = ["RAW_GREY", "Frame", "ImageFormat", "ImageHeader", "ImageLimits", "decode", "read_header"]

Frame = NDArray[np.uint8]

DecodeJpeg = Callable[[bytes, int, int], Frame | None]
"""Another decoder of JPEG: the frame of so many columns and rows, or None where OpenCV is to look at it."""

RAW_GREY = "application/x-gray8"
"""Content type of raw 8-bit grey rows without padding; width and height come beside the value."""

# Every decoding failure becomes a rejected frame with its reason; OpenCV's own lines would only disturb the logs.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

# An EXIF orientation is ignored because a camera over a line does not turn. Without ANYDEPTH a 16-bit file would lose
# its lower byte: 12-bit camera data would come out black.
_FLAGS = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION | cv2.IMREAD_ANYDEPTH


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What a frame may be. Pixels are width x height; ``bit_depth`` (8-16) is that of data in 16-bit containers."""

    min_pixels: int = 4_096
    max_pixels: int = 16_777_216
    max_bytes: int = 16_777_216
    bit_depth: int = 16

    def __post_init__(self) -> None:
        if not 8 <= self.bit_depth <= 16:
            raise ValueError(f"bit_depth is {self.bit_depth}, not 8 to 16")


def decode(
    value: bytes,
    *,
    limits: ImageLimits,
    content_type: str | None = None,
    width: int | None = None,
    height: int | None = None,
    decode_jpeg: DecodeJpeg | None = None,
) -> Frame:
    """The frame of a record's value, C-contiguous ``uint8 [height, width]``.

    Colour becomes grey, the first page of a TIFF stands for all, an orientation is ignored, and samples of 16 bits are
    scaled so that white of ``limits.bit_depth`` is 255. ``content_type`` matters only where it is :data:`RAW_GREY`,
    which needs ``width`` and ``height`` and is returned as a read-only view; everything else is told by its bytes.
    ``decode_jpeg`` is tried on every JPEG that has passed the checks of its header.

    Raises :class:`FrameRejectedError`: ``empty``, ``too-large`` (bytes), ``bad-header`` (raw grey without its size),
    ``unknown-format``, ``wrong-size`` (pixels outside the limits, or raw bytes that are not width x height),
    ``truncated`` (the end is missing) or ``undecodable``.
    """
    if not value:
        raise FrameRejectedError("empty", "the record has no value")
    if len(value) > limits.max_bytes:
        raise FrameRejectedError("too-large", f"{len(value)} bytes, but at most {limits.max_bytes} are allowed")
    if content_type is not None and content_type.partition(";")[0].strip().lower() == RAW_GREY:
        return _raw_grey(value, limits, width, height)
    header = read_header(value)
    _check_pixels(header.width, header.height, limits)
    if header.bit_depth > 16:
        raise FrameRejectedError("undecodable", f"{header.bit_depth} bits per sample, but at most 16 can be inspected")
    check_complete(value, header)
    if decode_jpeg is not None and header.format == "jpeg":
        frame = decode_jpeg(value, header.width, header.height)
        if frame is not None:
            return frame
    try:
        image = cv2.imdecode(np.frombuffer(without_orientation(value, header), np.uint8), _FLAGS)
    except cv2.error as error:
        raise FrameRejectedError("undecodable", f"the {header.format} decoder failed: {error.err}") from None
    if image is None or image.shape != (header.height, header.width):
        raise FrameRejectedError(
            "undecodable", f"the {header.format} decoder found no image of {header.width}x{header.height} pixels"
        )
    if image.dtype == np.uint8:
        return cast(Frame, image)
    if image.dtype == np.uint16:
        # Samples that a TIFF packs into 10, 12 or 14 bits have been scaled to 16 by the decoder.
        depth = limits.bit_depth if header.bit_depth == 16 else 16
        # Rounds to the nearest and saturates: data above its stated depth is white.
        return cast(Frame, cv2.convertScaleAbs(image, alpha=255 / (2**depth - 1)))
    raise FrameRejectedError("undecodable", f"the {header.format} has samples of type {image.dtype}")


def _raw_grey(value: bytes, limits: ImageLimits, width: int | None, height: int | None) -> Frame:
    if width is None or height is None or width < 1 or height < 1:
        raise FrameRejectedError("bad-header", f"{RAW_GREY} needs the headers width and height as positive numbers")
    _check_pixels(width, height, limits)
    if len(value) != width * height:
        raise FrameRejectedError("wrong-size", f"{len(value)} bytes are not {width}x{height} pixels of 8 bits")
    return np.frombuffer(value, np.uint8).reshape(height, width)


def _check_pixels(width: int, height: int, limits: ImageLimits) -> None:
    pixels = width * height
    if not limits.min_pixels <= pixels <= limits.max_pixels:
        raise FrameRejectedError(
            "wrong-size",
            f"{width}x{height} is {pixels} pixels, allowed are {limits.min_pixels} to {limits.max_pixels}",
        )
