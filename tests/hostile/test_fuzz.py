from __future__ import annotations

import pytest

from engines import images
from engines.errors import FrameRejectedError
from tests.hostile.fuzz import fuzz


def test_it_goes_where_its_seeds_did_not_and_finds_no_fault() -> None:
    found = fuzz(3, seed=11)
    assert found.faults == {}
    assert found.corpus > found.seeds


def test_it_sees_a_checksum_that_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.decoding._verify_checksum", lambda frame, value, required: None)
    assert "BrokenPromiseError: decoded although its checksum fails" in str(fuzz(1, seed=1).faults)


def test_it_sees_an_error_that_is_not_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(*_: object) -> None:
        raise IndexError("out of range")

    monkeypatch.setattr("engines.image_headers._read_bmp", careless)
    assert "IndexError: out of range" in fuzz(1, seed=1).faults


def test_it_sees_a_picture_of_another_size_than_was_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    decode = images.decode

    def turned(*arguments: object, **options: object) -> object:
        return decode(*arguments, **options).T  # type: ignore[arg-type]

    monkeypatch.setattr("engines.images.decode", turned)
    assert " became (160, 64)" in str(fuzz(1, seed=1).faults)


def test_it_sees_a_reason_that_is_not_a_header_s(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: bytes) -> None:
        raise FrameRejectedError("inference", "a reason of somebody else")

    monkeypatch.setattr("engines.image_headers._read_png", refuse)
    assert "BrokenPromiseError: a header is inference" in str(fuzz(1, seed=1).faults)
