from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.frames import MAX_CAMERA, Frame, format_time, frame_of, parse_time

TIME_MS = 1_700_000_000_123


def record(key: bytes | None = b"cam-7", value: bytes | None = b"x", **headers: bytes) -> SimpleNamespace:
    return SimpleNamespace(
        topic="frames",
        partition=3,
        offset=42,
        timestamp=TIME_MS,
        key=key,
        value=value,
        headers=[(name.replace("_", "-"), content) for name, content in headers.items()],
    )


def test_a_frame_without_headers_has_an_id_and_a_time_and_the_rest_is_unknown() -> None:
    meta = frame_of(record()).meta
    assert (meta.id, meta.camera, meta.captured_at_ms) == ("frames-3-42", "cam-7", TIME_MS)
    assert (meta.frame_id, meta.coil, meta.position_mm, meta.malformed) == (None, None, None, ())


def test_headers_are_read() -> None:
    meta = frame_of(
        record(frame_id=b"f-1", captured_at=b"2026-11-22T10:00:00.5+01:00", coil_id=b"C42", position_mm=b"1234.5")
    ).meta
    assert (meta.frame_id, meta.coil, meta.position_mm) == ("f-1", "C42", 1234.5)
    assert format_time(meta.captured_at_ms) == "2026-11-22T09:00:00.500Z"


@pytest.mark.parametrize("key", [None, b"", b"\xff\xfe"])
def test_a_camera_that_cannot_be_read_is_unknown(key: bytes | None) -> None:
    assert frame_of(record(key=key)).meta.camera == "unknown"


def test_a_camera_with_an_endless_name_still_has_an_event_that_fits() -> None:
    assert frame_of(record(key=b"c" * 1_000_000)).meta.camera == "c" * MAX_CAMERA


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("position_mm", b"far"),
        ("position_mm", b"nan"),
        ("position_mm", b"inf"),
        ("captured_at", b"yesterday"),
        ("captured_at", b"2026-11-22T10:00:00"),
        ("coil_id", b"\xff"),
        ("frame_id", b"\xc3"),
    ],
)
def test_information_that_does_not_parse_is_unknown_and_named(name: str, content: bytes) -> None:
    meta = frame_of(record(**{name: content})).meta
    assert meta.malformed == (name.replace("_", "-"),)
    assert (meta.frame_id, meta.coil, meta.position_mm, meta.captured_at_ms) == (None, None, None, TIME_MS)


def test_the_last_of_repeated_headers_counts() -> None:
    repeated = record()
    repeated.headers = [("coil-id", b"first"), ("coil-id", b"last")]
    assert frame_of(repeated).meta.coil == "last"


@given(
    key=st.none() | st.binary(max_size=20),
    headers=st.lists(
        st.tuples(
            st.sampled_from(["frame-id", "captured-at", "coil-id", "position-mm", "other"]),
            st.none() | st.binary(max_size=40) | st.text(max_size=20).map(str.encode),
        ),
        max_size=6,
    ),
)
def test_no_record_makes_reading_fail(key: bytes | None, headers: list[tuple[str, bytes | None]]) -> None:
    anything = record(key=key)
    anything.headers = headers
    assert isinstance(frame_of(anything), Frame)


@given(st.integers(min_value=0, max_value=4_102_444_800_000))
def test_times_survive_being_written_and_read(milliseconds: int) -> None:
    assert parse_time(format_time(milliseconds)) == milliseconds
