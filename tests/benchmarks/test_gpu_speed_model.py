"""The model's arithmetic, against what a reader of its page would do on paper."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.gpu_devices import SHORTEST_KERNEL_S, Device, kernel_floor_s, stage_floor_s
from benchmarks.gpu_speed_model import Host, Shares, bus_fps, cascade_fps, expected_stage_s, main
from benchmarks.graph_work import Kernel, StageWork
from tests.support.tiny_cascade import write_tiny_cascade

DEVICE = Device("paper", tensor_flops=1e12, vector_flops=1e11, memory_bytes_s=1e9, host_bytes_s=1e6)

DENSE = Kernel(("Conv",), "tensor", multiply_adds=50_000_000, bytes_moved=1_000)
GROUPED = Kernel(("Conv",), "vector", multiply_adds=50_000_000, bytes_moved=1_000)
MOVING = Kernel(("Gather",), "vector", multiply_adds=0, bytes_moved=5_000_000)
SMALL = Kernel(("Sigmoid",), "vector", multiply_adds=0, bytes_moved=4)


def test_a_kernel_takes_as_long_as_the_slowest_of_what_it_needs() -> None:
    assert kernel_floor_s(DENSE, DEVICE) == pytest.approx(100e-6)
    assert kernel_floor_s(GROUPED, DEVICE) == pytest.approx(1e-3)
    assert kernel_floor_s(MOVING, DEVICE) == pytest.approx(5e-3)
    assert kernel_floor_s(SMALL, DEVICE) == SHORTEST_KERNEL_S
    assert stage_floor_s(StageWork(1, (DENSE, SMALL)), DEVICE) == pytest.approx(102e-6)


def test_survivors_run_in_the_batches_that_they_make() -> None:
    floors = {1: 1.0, 2: 1.5}
    # Of two frames one survives with probability 2 x 0.1 x 0.9, both with 0.01.
    assert expected_stage_s(floors, 0.1, 2) == pytest.approx(0.18 * 1.0 + 0.01 * 1.5)
    assert expected_stage_s(floors, 1.0, 2) == pytest.approx(1.5)
    assert expected_stage_s(floors, 0.0, 2) == 0


def test_the_cascade_s_speed_is_that_of_its_stages_at_their_shares() -> None:
    works = {"gate": {1: StageWork(1, (DENSE,))}, "classifier": {1: StageWork(1, (MOVING,))}}
    shares = Shares(0.05, {"gate": 1.0, "classifier": 0.2})
    assert cascade_fps(works, shares, DEVICE, 1) == pytest.approx(1 / (100e-6 + 0.2 * 5e-3))


def test_the_bus_carries_frames_and_masks_at_the_same_time() -> None:
    assert bus_fps(Shares(0.05, {"gate": 1.0, "segmenter-1": 0.1}), DEVICE, 1000) == pytest.approx(1000)
    many = Shares(1, {"segmenter-1": 1.0, "segmenter-2": 1.0})
    assert bus_fps(many, DEVICE, 1000) == pytest.approx(500)


def test_a_process_is_bound_by_what_one_thread_at_a_time_does() -> None:
    host = Host(decode_ms=1.0, hand_over_ms=0.1, mask_ms=0.5, stream_ms=0.4)
    shares = Shares(0.5, {"gate": 1.0, "segmenter-1": 0.1, "segmenter-2": 0.1})
    assert host.serial_ms(shares) == pytest.approx(0.6)
    assert host.total_ms(shares) == pytest.approx(1.6)


def test_the_command_calculates_every_gpu(tmp_path: Path) -> None:
    folder = write_tiny_cascade(tmp_path / "tiny")
    runs = "".join(f"f-{number:06d},1,1 5\n" for number in range(1, 16, 2))
    (folder / "truth.csv").write_text(f"ImageId,ClassId,EncodedPixels\n{runs}")
    arguments = ["--cascade", str(folder), "--directory", str(tmp_path), "--max-frames", "4", "--frames", "20"]
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert done.output.startswith("Calculated, not measured")
    assert "| segmenter-1 to segmenter-4 |" in done.output
    for gpu in ("T4", "L4", "A10", "A100", "H100"):
        assert f"| {gpu}" in done.output
