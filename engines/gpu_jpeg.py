"""JPEG decoding by nvImageCodec: on the GPU, whose hardware and kernels take it off the processor's cores.

It decides nothing. What it may be given are the kinds that every camera makes; whatever it does not decode goes to the
processor's decoder, which alone says what cannot be decoded, so that no frame is rejected that the latter accepts.
"""

from __future__ import annotations

import os
import queue
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal

import cv2
import numpy as np
import structlog

from engines.errors import DeviceError
from engines.images import Frame

Codec = Literal["gpu", "cpu"]
"""Where nvImageCodec works: on the processor only in tests, with the same decoder as OpenCV."""

OTHERWISE: Final = "or set input.jpeg_decoder: cpu"

_MARKER: Final = re.compile(rb"\xff([^\x00\xff])")
_BASELINE, _PROGRESSIVE, _SCAN, _ADOBE = 0xC0, 0xC2, 0xDA, 0xEE
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE: Final = frozenset({0x01, *range(0xD0, 0xD9)})

MOST_SEGMENTS: Final = 256

log = structlog.get_logger(__name__)


class JpegDecoder:
    """So many decoders, one for each thread that decodes at a time. Obtained from :func:`open_jpeg_decoder`."""

    def __init__(self, library: Any, decoders: int, device: int, codec: Codec) -> None:
        kinds = library.BackendKind
        backends = [kinds.CPU_ONLY] if codec == "cpu" else [kinds.HW_GPU_ONLY, kinds.GPU_ONLY, kinds.HYBRID_CPU_GPU]
        self._library = library
        # Luminance as it is stored, which is what the processor's decoder returns for grey; a camera does not turn.
        self._parameters = library.DecodeParams(apply_exif_orientation=False, color_spec=library.ColorSpec.GRAY)
        self._told = False
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(decoders):
            self._free.put(
                library.Decoder(
                    device_id=library.NVIMGCODEC_DEVICE_CPU_ONLY if codec == "cpu" else device,
                    max_num_cpu_threads=1,
                    backends=[library.Backend(kind) for kind in backends],
                )
            )

    def decode(self, value: bytes, width: int, height: int) -> Frame | None:
        """The frame, uint8 ``[height, width]``; None where the processor's decoder is to look at it instead.

        Waits for a decoder where more threads ask than there are.
        """
        if not is_plain(value):
            return None
        decoder = self._free.get()
        try:
            image = decoder.decode(self._library.CodeStream(value), params=self._parameters)
            # To the host, since a slot takes its frames from there.
            found = None if image is None else np.asarray(image.cpu())
        except RuntimeError as error:
            self._tell(str(error))
            return None
        finally:
            self._free.put(decoder)
        if (
            found is None
            or found.dtype != np.uint8
            or found.shape[:2] != (height, width)
            or found.size != width * height
        ):
            self._tell("no image of the size that its header names")
            return None
        # The image's memory ends with it.
        frame: Frame = found.reshape(height, width).copy()
        return frame

    def close(self) -> None:
        """Free the decoders. None may be at work."""
        while not self._free.empty():
            self._free.get()

    def _tell(self, reason: str) -> None:
        if not self._told:
            self._told = True
            log.warning("a JPEG goes to the processor's decoder; said once", reason=" ".join(reason.split()))


@contextmanager
def open_jpeg_decoder(decoders: int, *, device: int = 0, codec: Codec = "gpu") -> Iterator[JpegDecoder]:
    """``decoders`` decoders on the GPU with this number, freed at the end.

    Raises :class:`DeviceError` where the package is missing or the GPU decodes nothing.
    """
    # Otherwise it writes what it makes of every broken frame to standard error.
    os.environ.setdefault("PYNVIMGCODEC_VERBOSITY", "0")
    try:
        from nvidia import nvimgcodec
    except ImportError as error:
        raise DeviceError(
            f"the package nvidia-nvimgcodec-cu13 cannot be imported ({error}):"
            f" install the extra gpu (docs/gpu.md), {OTHERWISE}"
        ) from None
    try:
        opened = JpegDecoder(nvimgcodec, decoders, device, codec)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise DeviceError(f"nvImageCodec does not start on this GPU ({reason}): mend its driver, {OTHERWISE}") from None
    try:
        probe = cv2.imencode(".jpg", np.full((32, 32), 127, np.uint8))[1].tobytes()
        if opened.decode(probe, 32, 32) is None:
            raise DeviceError(
                "nvImageCodec decodes no JPEG on this GPU: is nvidia-nvjpeg installed?"
                f" Install the extra gpu (docs/gpu.md), {OTHERWISE}"
            )
        yield opened
    finally:
        opened.close()


def is_plain(value: bytes) -> bool:
    """Whether a JPEG is baseline or progressive, of 8 bits, and grey or of luminance and colour differences.

    Everything else is rare, and decoders disagree about it: arithmetic coding, 12 bits, CMYK, and colours stored as
    red, green and blue, which an Adobe segment or the components' names tell (ITU-T T.871, T.872).
    """
    position, plain = 2, False
    for _ in range(MOST_SEGMENTS):
        found = _MARKER.search(value, position)
        if found is None or found[1][0] == _SCAN:
            return plain
        marker, position = found[1][0], found.end()
        if marker in _BARE:
            continue
        try:
            (length,) = struct.unpack_from(">H", value, position)
            if marker in _FRAMES:
                bits, channels = value[position + 2], value[position + 7]
                names = value[position + 8 : position + 8 + 3 * channels : 3]
                if marker not in {_BASELINE, _PROGRESSIVE} or bits != 8:
                    return False
                plain = channels == 1 or (channels == 3 and names == b"\x01\x02\x03")
            elif marker == _ADOBE and value[position + 2 : position + 7] == b"Adobe":
                return False
        except (struct.error, IndexError):
            return False
        position += max(length, 2)
    return False
