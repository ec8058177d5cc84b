from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.deadletters import RECORD_OVERHEAD, dead_letter
from daemon.frames import Frame, FrameMeta
from daemon.pipeline import Rejection

REJECTION = Rejection("truncated", "the end is missing")


def frame(value: bytes | None, headers: tuple[tuple[str, bytes | None], ...] = (), key: bytes | None = b"cam") -> Frame:
    return Frame(FrameMeta("frames", 2, 9, 0, 0, key, "cam", None, None, None, headers), value)


def test_the_record_goes_on_as_it_was_with_the_reason_added() -> None:
    letter = dead_letter(frame(b"bytes", (("coil-id", b"C1"), ("nothing", None))), REJECTION, 100_000)
    assert (letter.key, letter.value) == (b"cam", b"bytes")
    assert letter.headers == [
        ("coil-id", b"C1"),
        ("nothing", b""),
        ("millwatch-reason", b"truncated"),
        ("millwatch-detail", b"the end is missing"),
        ("millwatch-source", b"frames-2-9"),
    ]


def test_a_dead_letter_that_dies_again_has_one_reason() -> None:
    first = dead_letter(frame(b"x"), REJECTION, 100_000)
    again = dead_letter(frame(b"x", tuple(first.headers)), Rejection("checksum", "flipped"), 100_000)
    assert [value for name, value in again.headers if name == "millwatch-reason"] == [b"checksum"]


def test_a_value_over_the_limit_is_left_out_and_its_size_told() -> None:
    letter = dead_letter(frame(b"x" * 200_000, (("coil-id", b"C1"),)), REJECTION, 100_000)
    assert letter.value == b""
    assert ("millwatch-value-omitted", b"200000") in letter.headers
    assert ("coil-id", b"C1") in letter.headers


@pytest.mark.parametrize("value", [None, b""])
def test_a_missing_value_stays_missing_and_an_empty_one_empty(value: bytes | None) -> None:
    assert dead_letter(frame(value), REJECTION, 100_000).value == value
    # The same where headers are left out for their size.
    letter = dead_letter(frame(value, (("large", b"x" * 2000),)), REJECTION, 1500)
    assert (letter.key, letter.value) == (b"cam", value)
    assert ("millwatch-value-omitted", b"0") in letter.headers


def test_a_record_with_neither_key_nor_value_gets_an_empty_value() -> None:
    assert dead_letter(frame(None, key=None), REJECTION, 100_000).value == b""
    # The same where the key is left out for its size.
    letter = dead_letter(frame(None, key=b"k" * 2000), REJECTION, 1500)
    assert (letter.key, letter.value) == (None, b"")


@given(
    value=st.integers(0, 3000).map(lambda size: b"v" * size),
    headers=st.lists(st.tuples(st.text(max_size=30), st.integers(0, 3000).map(lambda size: b"h" * size)), max_size=5),
    detail=st.text(max_size=2000),
    key=st.none() | st.integers(0, 3000).map(lambda size: b"k" * size),
)
def test_the_reason_always_fits(value: bytes, headers: list[tuple[str, bytes]], detail: str, key: bytes | None) -> None:
    limit = 2500
    letter = dead_letter(frame(value, tuple(headers), key), Rejection("truncated", detail), limit)
    size = sum(len(name.encode()) + len(content) for name, content in letter.headers)
    size += len(letter.value or b"") + len(letter.key or b"")
    assert size + RECORD_OVERHEAD <= limit
    assert dict(letter.headers)["millwatch-reason"] == b"truncated"


@pytest.mark.parametrize(
    ("timestamp_ms", "headers", "told"),
    [
        (1_795_341_600_250, (), b"2026-11-22T10:00:00.250Z"),
        (1_795_341_600_250, (("captured-at", b"the camera knows better"),), None),
        (-1, (), None),
        (0, (), None),
        (2**63 - 1, (), None),
    ],
)
def test_a_frame_without_a_time_of_its_own_keeps_its_records(
    timestamp_ms: int, headers: tuple[tuple[str, bytes | None], ...], told: bytes | None
) -> None:
    meta = FrameMeta("frames", 2, 9, timestamp_ms, 0, b"cam", "cam", None, None, None, headers)
    assert dict(dead_letter(Frame(meta, b"x"), REJECTION, 100_000).headers).get("millwatch-captured-at") == told


def test_a_frame_that_was_put_back_and_dies_again_still_says_where_from() -> None:
    headers = (("millwatch-redriven", b"frames.dead-0-7"), ("millwatch-value-omitted", b"12"))
    letter = dead_letter(frame(b"x", headers), REJECTION, 100_000)
    assert letter.headers[0] == ("millwatch-redriven", b"frames.dead-0-7")
    assert "millwatch-value-omitted" not in dict(letter.headers)
