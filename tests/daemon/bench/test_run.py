from __future__ import annotations

from pathlib import Path

import pytest

from daemon.bench.run import Plan, run_bench
from daemon.bench.service_process import ServiceProcess
from daemon.bench.stream import Options
from daemon.bench.workload import read_workload
from daemon.inspector import open_inspector
from engines.errors import MillwatchError
from engines.openvino.compiler import OpenVINOCompiler
from tests.support.tiny_cascade import write_tiny_cascade

FRAMES = 80


@pytest.fixture(scope="module")
def cascade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny cascade with its truth."""
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny_cascade(folder)
    rows = [f"f-{number:06d},1,1 5\n" for number in range(1, 16, 2)]
    (folder / "truth.csv").write_text("ImageId,ClassId,EncodedPixels\n" + "".join(rows))
    return folder


@pytest.fixture(scope="module")
def options(cascade: Path) -> Options:
    options = Options(None, (f"cascade={cascade}", f"engine.directory={cascade / 'engines'}"))
    # Built here, so that no measurement has to wait for it.
    open_inspector(options.settings()).close()
    return options


@pytest.mark.kafka
def test_every_part_gives_its_figures(cascade: Path, options: Options, embedded_broker: str) -> None:
    # The bench reads the service's log, whatever its user has set for it.
    quiet = ("log.level=error", "log.format=console")
    options = Options(None, (*options.overrides, f"kafka.bootstrap={embedded_broker}", *quiet))
    workload = read_workload(cascade / "recording.parquet", cascade / "truth.csv", 0.5)
    result = run_bench(Plan(options, workload, FRAMES, rounds=1, broker=None, skip=[]), say=lambda _: None)
    assert result.cascade_fps is not None
    assert result.naive_fps is not None
    assert result.end_to_end_fps is not None
    assert result.ratio == result.end_to_end_fps / result.cascade_fps
    assert result.latency_ms is not None
    assert 0 < result.latency_ms.p50 <= result.latency_ms.p95 <= result.latency_ms.p99
    assert result.cpu_ms_per_frame.end_to_end is not None
    assert result.rss_mb is not None
    assert result.rss_mb > 20
    # The tiny cascade is exact enough for the fastest precision that this processor has.
    assert (result.backend, result.precision, result.frames) == ("openvino", OpenVINOCompiler().precisions[0], FRAMES)


def test_parts_that_are_left_out_are_null_and_need_no_broker(cascade: Path, options: Options) -> None:
    workload = read_workload(cascade / "recording.parquet", cascade / "truth.csv", 0.05)
    plan = Plan(options, workload, FRAMES, rounds=2, broker=None, skip=["naive", "end-to-end", "latency"])
    result = run_bench(plan, say=lambda _: None)
    assert result.cascade_fps is not None
    assert result.cpu_ms_per_frame.cascade is not None
    assert (result.end_to_end_fps, result.ratio, result.naive_fps, result.latency_ms, result.rss_mb) == (None,) * 5


def test_a_service_that_does_not_start_is_shown_with_its_last_words() -> None:
    with (
        ServiceProcess(["--set", "kafka.bootstap=nowhere:1"]) as service,
        pytest.raises(MillwatchError, match=r"kafka\.bootstap: no such key"),
    ):
        service.wait_until_reading()
