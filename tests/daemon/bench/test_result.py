from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from daemon.bench.result import BenchResult, CpuPerFrame, Measured, Percentiles

LATENCIES = st.lists(st.floats(0, 1e4), min_size=1, max_size=200)


@given(LATENCIES)
def test_at_least_the_share_of_latencies_is_at_most_its_percentile(values: list[float]) -> None:
    found = Percentiles.of(values)
    for share, value in ((0.50, found.p50), (0.95, found.p95), (0.99, found.p99)):
        assert value in values
        assert sum(each <= value for each in values) >= share * len(values)
        assert sum(each < value for each in values) < share * len(values)


def test_parts_of_different_speed_add_up_by_their_time() -> None:
    total = Measured.total([Measured(100, 1.0, 1.5), Measured(100, 3.0, 2.5)])
    assert (total.fps, total.cpu_ms_per_frame) == (50.0, 20.0)


def test_the_result_is_one_json_object_with_the_published_keys() -> None:
    result = BenchResult(
        frames=300,
        defect_rate=0.05,
        cores=2,
        cpu="some processor",
        backend="openvino",
        precision="f32",
        cascade_fps=100.12345,
        end_to_end_fps=90.0,
        ratio=0.9,
        naive_fps=None,
        latency_ms=Percentiles(10.0, 20.0, 30.0),
        cpu_ms_per_frame=CpuPerFrame(18.0, 19.0),
        rss_mb=312.0,
    )
    text = result.to_json()
    assert "\n" not in text
    assert json.loads(text) == {
        "frames": 300,
        "defect_rate": 0.05,
        "cores": 2,
        "cpu": "some processor",
        "backend": "openvino",
        "precision": "f32",
        "cascade_fps": 100.123,
        "end_to_end_fps": 90.0,
        "ratio": 0.9,
        "naive_fps": None,
        "latency_ms": {"p50": 10.0, "p95": 20.0, "p99": 30.0},
        "cpu_ms_per_frame": {"cascade": 18.0, "end_to_end": 19.0},
        "rss_mb": 312.0,
    }
