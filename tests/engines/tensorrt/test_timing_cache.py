"""The timing cache's file: what was written comes back whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.tensorrt.timing_cache import MAGIC, read_timing_cache, timing_cache_path, write_timing_cache


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    for data in (b"kernel 3 took 12 us", b"", b"another"):
        write_timing_cache(path, data)
        assert read_timing_cache(path) == data
    assert [file.name for file in tmp_path.iterdir()] == ["cache"]


def test_a_damaged_file_is_as_good_as_none(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    assert read_timing_cache(path) == b""
    write_timing_cache(path, b"kernel 3 took 12 us")
    whole = path.read_bytes()
    for number in (0, len(MAGIC), len(MAGIC) + 33, len(whole) - 1):
        path.write_bytes(whole[:number] + bytes([whole[number] ^ 1]) + whole[number + 1 :])
        assert read_timing_cache(path) == b""
    for length in (0, 5, len(MAGIC), len(MAGIC) + 32, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert read_timing_cache(path) == b""


def test_a_file_that_cannot_be_written_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    path.mkdir()
    write_timing_cache(path, b"kernel 3 took 12 us")
    write_timing_cache(tmp_path / "missing" / "cache", b"kernel 3 took 12 us")
    assert [file.name for file in tmp_path.iterdir()] == ["cache"]
    assert read_timing_cache(path) == b""


@pytest.mark.parametrize(
    ("gpu", "name"),
    [
        ("NVIDIA L4", ".timing-cache-11.4.0.106-NVIDIA-L4"),
        ("NVIDIA GeForce RTX 4070/Laptop GPU", ".timing-cache-11.4.0.106-NVIDIA-GeForce-RTX-4070-Laptop-GPU"),
    ],
)
def test_each_version_and_gpu_has_a_file_of_its_own(tmp_path: Path, gpu: str, name: str) -> None:
    assert timing_cache_path(tmp_path, "11.4.0.106", gpu) == tmp_path / name
