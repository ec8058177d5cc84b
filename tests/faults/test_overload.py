from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from daemon.apache_kafka import ApacheKafka
from tests.faults.overload import Figures, Sample, Seen, mean_rss, overload, row, true_age_s


def sample(at_s: float, sent: int = 0, taken: int = 0, rss_mib: float = 100.0) -> Sample:
    return Sample(at_s, sent, taken, 0, 0.0, 0.0, 0, rss_mib)


GOOD = Figures(
    minutes=30,
    sustainable_fps=500,
    fed_fps=1_000,
    sent={"clean": 6, "defective": 3, "dead": 1},
    account={"taken": 12, "clean": 6, "defective": 3, "dead": 1, "returned": 2, "in flight": 0},
    seen=Seen(clean=6, defective=3, dead=1, repeated=0, wrong=0),
    drain_s=60,
    rss_second_fifth_mib=200,
    rss_last_fifth_mib=209,
    rss_highest_mib=210,
    lag_at_end=100_000,
    unread_at_end=105_000,
    unread_age_at_end_s=500,
    true_age_at_end_s=510,
    held_bytes_highest=1,
)


@pytest.mark.kafka
@pytest.mark.slow
def test_a_short_overload_loses_and_repeats_nothing_and_is_seen(apache_kafka: ApacheKafka, tmp_path: Path) -> None:
    samples: list[Sample] = []
    figures = overload(tmp_path, apache_kafka.bootstrap, minutes=0.1, rate=2.0, warm_up=3_000, samples=samples)
    assert figures.exact, figures
    assert figures.visible, figures
    assert figures.seen.frames == sum(figures.sent.values()) > 3_000
    assert figures.held_bytes_highest > 0
    assert max(each.lag for each in samples) > 0


def test_what_was_lost_repeated_or_miscounted_is_not_exact() -> None:
    assert GOOD.exact
    for seen in (
        replace(GOOD.seen, clean=5),
        replace(GOOD.seen, clean=7, repeated=1),
        replace(GOOD.seen, repeated=1),
        replace(GOOD.seen, wrong=1),
        replace(GOOD.seen, clean=7, defective=2),
    ):
        assert not replace(GOOD, seen=seen).exact
    assert not replace(GOOD, account=GOOD.account | {"dead": 2}).exact


def test_memory_that_grows_or_shrinks_is_not_flat() -> None:
    assert GOOD.flat
    assert not replace(GOOD, rss_last_fifth_mib=211).flat
    assert not replace(GOOD, rss_last_fifth_mib=189).flat


def test_lag_or_age_far_from_the_truth_is_not_visible() -> None:
    assert GOOD.visible
    assert not replace(GOOD, lag_at_end=80_000).visible
    assert not replace(GOOD, unread_age_at_end_s=0).visible


def test_the_row_tells_what_was_lost() -> None:
    assert "| 10 | 6 | 3 | 1 | 0 | 0 | 0 |" in row(GOOD)
    lost = replace(GOOD, seen=Seen(clean=5, defective=3, dead=1, repeated=1, wrong=0))
    assert "| 10 | 5 | 3 | 1 | 2 | 1 | 0 |" in row(lost)


def test_the_parts_of_a_run_have_their_own_mean() -> None:
    samples = [sample(number, rss_mib=number) for number in range(10)]
    assert [mean_rss(samples, fifth, 5) for fifth in (0, 1, 4)] == [0.5, 2.5, 8.5]
    assert mean_rss(samples[:1], 1, 5) == 0


def test_the_true_age_is_that_of_the_first_frame_of_any_partition_without_a_verdict() -> None:
    samples = [sample(0, 0), sample(10, 100), sample(20, 200), sample(30, 300)]
    assert true_age_s(samples, [75, 75, 75, 75]) == 0
    assert true_age_s(samples, [38, 38, 38, 37]) == pytest.approx(30 - 15.1)
    assert true_age_s(samples, [75, 75, 0, 75]) == pytest.approx(30 - 0.2)
