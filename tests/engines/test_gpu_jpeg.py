"""What of a decoder on the GPU needs neither one nor its library: what it is given, and what follows when it fails."""

from __future__ import annotations

from importlib.util import find_spec

import cv2
import numpy as np
import pytest

from engines.errors import DeviceError, FrameRejectedError
from engines.gpu_jpeg import is_plain, open_jpeg_decoder
from engines.images import Frame, ImageLimits, decode

LIMITS = ImageLimits(min_pixels=1)
COLOURS = np.random.default_rng(5).integers(0, 256, (40, 56, 3), dtype=np.uint8)


def jpeg(image: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(".jpg", image, list(options))[1].tobytes()


BASELINE = jpeg(COLOURS)


def renamed(value: bytes, names: bytes) -> bytes:
    """The components of the frame header under other names."""
    at = value.index(b"\xff\xc0") + 10
    changed = bytearray(value)
    changed[at : at + 9 : 3] = names
    return bytes(changed)


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (BASELINE, True),
        (jpeg(COLOURS[..., 0]), True),
        (jpeg(COLOURS, cv2.IMWRITE_JPEG_PROGRESSIVE, 1), True),
        (jpeg(COLOURS, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111), True),
        (renamed(BASELINE, b"RGB"), False),
        (BASELINE.replace(b"\xff\xc0", b"\xff\xc9", 1), False),
        (BASELINE.replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c", 1), False),
        (BASELINE[:2] + b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00" + BASELINE[2:], False),
        (BASELINE[:100], False),
        (b"\xff\xd8\xff\xda", False),
        (b"\xff\xd8", False),
        (b"", False),
    ],
)
def test_only_plain_jpegs_leave_the_processor(value: bytes, plain: bool) -> None:
    assert is_plain(value) is plain


def test_a_decoder_that_gives_nothing_leaves_the_frame_to_the_processor() -> None:
    asked = []

    def gives_nothing(value: bytes, width: int, height: int) -> Frame | None:
        asked.append((width, height))
        return None

    frame = decode(BASELINE, limits=LIMITS, decode_jpeg=gives_nothing)
    assert asked == [(56, 40)]
    np.testing.assert_array_equal(frame, decode(BASELINE, limits=LIMITS))


def test_what_it_gives_is_the_frame() -> None:
    given = np.full((40, 56), 7, np.uint8)
    assert decode(BASELINE, limits=LIMITS, decode_jpeg=lambda value, width, height: given) is given


@pytest.mark.parametrize(
    "value", [b"", BASELINE[:-400], cv2.imencode(".png", COLOURS)[1].tobytes(), b"\xff\xd8\xff\xd9"]
)
def test_it_never_sees_what_its_header_condemns_or_what_is_no_jpeg(value: bytes) -> None:
    def never(value: bytes, width: int, height: int) -> Frame | None:
        raise AssertionError("asked")

    try:
        decode(value, limits=LIMITS, decode_jpeg=never)
    except FrameRejectedError:
        assert value[:1] != b"\x89"


@pytest.mark.skipif(find_spec("nvidia.nvimgcodec") is not None if find_spec("nvidia") else False, reason="it is here")
def test_without_its_package_the_line_says_what_to_install() -> None:
    with pytest.raises(DeviceError, match=r"install the extra gpu \(docs/gpu\.md\), or set input\.jpeg_decoder: cpu"):  # noqa: SIM117
        with open_jpeg_decoder(1):
            pass
