from __future__ import annotations

from collections import Counter

from prometheus_client.parser import text_string_to_metric_families

from daemon.accounting import Account
from daemon.metrics import LineFigures, Metrics


def samples(metrics: Metrics) -> dict[tuple[str, str], float]:
    """Values by name and label value."""
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
    }


def test_the_account_is_shown_as_it_is_at_the_scrape() -> None:
    metrics = Metrics()
    account = Account(taken=10, clean=3, defective=2, dead=Counter({"truncated": 1, "made-up": 1}), returned=1)
    metrics.follow(
        lambda: LineFigures(
            account,
            in_flight=2,
            commits=4,
            aborts=1,
            rebalances=5,
            lag={0: 7, 3: 9},
            oldest_age_s=0.25,
            unread_age_s=12.5,
            bytes_held=4096,
        )
    )
    shown = samples(metrics)
    outcomes = {
        outcome: shown["millwatch_frames_total", outcome] for outcome in ("clean", "defective", "dead", "returned")
    }
    assert shown["millwatch_frames_total", "taken"] == sum(outcomes.values()) + shown["millwatch_in_flight_frames", ""]
    assert shown["millwatch_dead_letters_total", "truncated"] == 1
    assert shown["millwatch_dead_letters_total", "other"] == 1
    assert shown["millwatch_lag_frames", "3"] == 9
    assert shown["millwatch_oldest_frame_age_seconds", ""] == 0.25
    assert shown["millwatch_unread_age_seconds", ""] == 12.5
    assert shown["millwatch_held_bytes", ""] == 4096
    assert (shown["millwatch_commits_total", ""], shown["millwatch_aborts_total", ""]) == (4, 1)
    account.taken += 1
    assert samples(metrics)["millwatch_frames_total", "taken"] == 11


def test_reasons_are_bounded_whatever_happens() -> None:
    metrics = Metrics()
    account = Account(dead=Counter({f"reason {number}": 1 for number in range(1000)}))
    metrics.follow(lambda: LineFigures(account))
    labels = [label for name, label in samples(metrics) if name == "millwatch_dead_letters_total"]
    assert len(labels) < 20
    assert samples(metrics)["millwatch_dead_letters_total", "other"] == 1000


def test_two_services_in_one_process_do_not_mix() -> None:
    first, second = Metrics(), Metrics()
    first.bytes_taken.inc(5)
    assert samples(second)["millwatch_taken_bytes_total", ""] == 0
