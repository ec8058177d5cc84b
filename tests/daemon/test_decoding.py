from __future__ import annotations

import time
from dataclasses import replace

import cv2
import numpy as np
import pytest
from crc32c import crc32c

from daemon.decoding import frame_decoder, frame_measure
from daemon.frames import Frame, FrameMeta
from engines.errors import FrameRejectedError
from engines.images import ImageLimits

IMAGE = np.arange(64 * 100, dtype=np.uint32).reshape(64, 100).astype(np.uint8)
PNG = cv2.imencode(".png", IMAGE)[1].tobytes()


def frame(value: bytes | None, **headers: str) -> Frame:
    pairs = tuple((name.replace("_", "-"), text.encode()) for name, text in headers.items())
    return Frame(FrameMeta("frames", 0, 1, 0, 0, None, "cam", None, None, None, pairs), value)


decode = frame_decoder(ImageLimits(), require_crc32c=False)
strict = frame_decoder(ImageLimits(), require_crc32c=True)


def reason(decoder: object, value: bytes | None, **headers: str) -> str:
    with pytest.raises(FrameRejectedError) as caught:
        decoder(frame(value, **headers))  # type: ignore[operator]
    return caught.value.reason


def test_an_image_is_decoded_with_and_without_its_checksum() -> None:
    assert np.array_equal(decode(frame(PNG)), IMAGE)
    assert np.array_equal(strict(frame(PNG, crc32c=f"{crc32c(PNG):08x}")), IMAGE)
    assert np.array_equal(strict(frame(PNG, crc32c=f"{crc32c(PNG):08X}")), IMAGE)


def test_a_frame_that_fails_its_checksum_is_refused_before_it_is_decoded() -> None:
    assert reason(decode, b"no image at all", crc32c=f"{crc32c(PNG):08x}") == "checksum"
    assert reason(decode, PNG, crc32c="not hex!") == "checksum"
    assert reason(strict, PNG) == "checksum"


def test_raw_grey_needs_its_size() -> None:
    raw = IMAGE.tobytes()
    grey = "application/x-gray8"
    assert np.array_equal(decode(frame(raw, content_type=grey, width="100", height="64")), IMAGE)
    assert reason(decode, raw, content_type=grey) == "bad-header"
    assert reason(decode, raw, content_type=grey, width="-100", height="64") == "bad-header"
    assert reason(decode, raw, content_type=grey, width="9" * 5000, height="64") == "bad-header"
    assert reason(decode, raw, content_type=grey, width="100", height="65") == "wrong-size"


def test_a_size_beside_an_encoded_image_is_not_looked_at() -> None:
    assert np.array_equal(decode(frame(PNG, width="many")), IMAGE)


@pytest.mark.parametrize("value", [None, b""])
def test_a_record_without_a_value_is_empty(value: bytes | None) -> None:
    assert reason(strict, value) == "empty"


def aged(age_s: float, value: bytes | None = PNG) -> Frame:
    appended_ms = round((time.time() - age_s) * 1000)
    return Frame(FrameMeta("frames", 0, 1, appended_ms, appended_ms, None, "cam", None, None, None, ()), value)


impatient = frame_decoder(ImageLimits(), require_crc32c=False, max_age_s=60.0)


def test_a_frame_that_waited_too_long_is_refused_unseen() -> None:
    for value in (PNG, b"no image at all", None):
        with pytest.raises(
            FrameRejectedError, match=r"appended 6[12]\.\d s ago.*input\.max_age_s allows 60 s"
        ) as caught:
            impatient(aged(61, value))
        assert caught.value.reason == "stale"
    assert np.array_equal(impatient(aged(30)), IMAGE)


@pytest.mark.parametrize("appended_ms", [-1, -(2**63), round(time.time() * 1000) + 10**9, 2**63 - 1])
def test_a_frame_without_a_time_or_from_the_future_is_never_stale(appended_ms: int) -> None:
    meta = FrameMeta("frames", 0, 1, appended_ms, appended_ms, None, "cam", None, None, None, ())
    assert np.array_equal(impatient(Frame(meta, PNG)), IMAGE)


def test_without_a_limit_no_frame_is_stale() -> None:
    assert np.array_equal(decode(aged(10 * 365 * 86_400)), IMAGE)


def test_a_frame_is_measured_by_its_pixels_unless_it_will_be_refused() -> None:
    measure = frame_measure(ImageLimits(max_pixels=64 * 100))
    assert measure(frame(PNG)) == 64 * 100
    larger = cv2.imencode(".png", np.zeros((64, 101), np.uint8))[1].tobytes()
    for value in (None, b"", b"no image at all", larger):
        assert measure(frame(value)) == 0
    assert measure(replace(frame(PNG), damage="a header name is not UTF-8")) == 0
