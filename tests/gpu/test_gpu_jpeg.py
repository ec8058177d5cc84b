"""nvImageCodec's own code on the processor: the frames that it gives are those of OpenCV, and it rejects no others.

On a GPU another transform computes them; how far they are off there is for ``millwatch verify-gpu`` to say.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.errors import DeviceError, FrameRejectedError
from engines.gpu_jpeg import JpegDecoder, is_plain, open_jpeg_decoder
from engines.images import DecodeJpeg, Frame, ImageLimits, decode
from engines.recording import read_recording

pytestmark = pytest.mark.skipif(
    find_spec("nvidia") is None or find_spec("nvidia.nvimgcodec") is None, reason="nvidia-nvimgcodec is not installed"
)

RECORDING = Path(__file__).parents[2] / "cascades/reference/recording.parquet"
LIMITS = ImageLimits(min_pixels=1)
KINDS = [
    (),
    (cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111),
    (cv2.IMWRITE_JPEG_QUALITY, 10),
    (cv2.IMWRITE_JPEG_RST_INTERVAL, 3),
]


@pytest.fixture(scope="module")
def decoder() -> Iterator[JpegDecoder]:
    with open_jpeg_decoder(2, codec="cpu") as opened:
        yield opened


def pictures() -> Iterator[bytes]:
    colours = cv2.GaussianBlur(np.random.default_rng(3).integers(0, 256, (90, 131, 3), dtype=np.uint8), (5, 5), 0)
    for image in (colours, np.ascontiguousarray(colours[..., 0])):
        for kind in KINDS:
            yield cv2.imencode(".jpg", image, kind)[1].tobytes()


def outcome(value: bytes, decode_jpeg: DecodeJpeg | None = None) -> Frame | str:
    try:
        return decode(value, limits=LIMITS, decode_jpeg=decode_jpeg)
    except FrameRejectedError as error:
        return error.reason


def test_every_plain_jpeg_comes_out_the_same(decoder: JpegDecoder) -> None:
    recorded = [frame.value or b"" for frame in read_recording(RECORDING)][:20]
    for value in [*pictures(), *recorded]:
        expected = decode(value, limits=LIMITS)
        found = decoder.decode(value, expected.shape[1], expected.shape[0])
        assert found is not None
        np.testing.assert_array_equal(found, expected)


def test_an_orientation_is_ignored(decoder: JpegDecoder) -> None:
    value = next(pictures())
    turned = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    value = value[:2] + b"\xff\xe1" + (len(turned) + 2).to_bytes(2, "big") + turned + value[2:]
    expected = decode(value, limits=LIMITS)
    found = decoder.decode(value, 131, 90)
    assert found is not None
    np.testing.assert_array_equal(found, expected)


def test_a_header_of_another_size_is_left_to_the_processor(decoder: JpegDecoder) -> None:
    assert decoder.decode(next(pictures()), 130, 90) is None


def test_damaged_frames_are_accepted_and_rejected_alike(decoder: JpegDecoder) -> None:
    chance = random.Random(7)
    values = list(pictures())
    rejected = same = 0
    for number in range(300):
        value = bytearray(values[number % len(values)])
        for _ in range(chance.choice((1, 1, 4, 30))):
            value[chance.randrange(2, len(value))] = chance.randrange(256)
        expected, found = outcome(bytes(value)), outcome(bytes(value), decoder.decode)
        if isinstance(expected, str) or isinstance(found, str):
            # What is accepted by one must be accepted by the other, and rejected for the same reason.
            assert isinstance(expected, str), (number, found)
            assert expected == found, (number, is_plain(bytes(value)))
            rejected += 1
        else:
            same += np.array_equal(expected, found)
    assert rejected > 20
    assert same > 200


def test_threads_wait_for_a_decoder_and_never_mix(decoder: JpegDecoder) -> None:
    values = list(pictures())
    expected = [decode(value, limits=LIMITS) for value in values]

    def check(number: int) -> None:
        at = number % len(values)
        found = decoder.decode(values[at], 131, 90)
        assert found is not None
        np.testing.assert_array_equal(found, expected[at])

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(check, number) for number in range(120)]:
            done.result()


def test_without_a_gpu_opening_says_so() -> None:
    with pytest.raises(DeviceError, match=r"does not start on this GPU .*, or set input\.jpeg_decoder: cpu"):  # noqa: SIM117
        with open_jpeg_decoder(1):
            pass
