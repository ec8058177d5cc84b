"""Prometheus metrics. All labels are bounded: outcomes, reasons, stages, partitions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Histogram, Info, ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from daemon.accounting import Account

REASONS = frozenset(
    {
        "empty",
        "too-large",
        "unknown-format",
        "undecodable",
        "truncated",
        "checksum",
        "bad-header",
        "wrong-size",
        "inference",
        "stale",
        "unreadable",
    }
)
"""Reasons of dead letters that have a label of their own; all others are counted as ``other``."""

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class LineFigures:
    """The line at one moment. ``gone`` are frames that were deleted before they were read; they are not in the account.
    ``lag`` is frames per partition; ``oldest_age_s`` the time since the append of the oldest frame in flight,
    ``unread_age_s`` that of the oldest that was not read, None where there is none; ``bytes_held`` is what the frames
    in the pipeline take."""

    account: Account
    in_flight: int = 0
    commits: int = 0
    aborts: int = 0
    rebalances: int = 0
    gone: int = 0
    lag: Mapping[int, int] = field(default_factory=dict)
    oldest_age_s: float | None = None
    unread_age_s: float | None = None
    bytes_held: int = 0


class Metrics:
    """The process's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.cascade = Info("millwatch_cascade", "The cascade that inspects, as events name it", registry=registry)
        self.bytes_taken = Counter("millwatch_taken_bytes", "Bytes of frames taken in, encoded", registry=registry)
        self.malformed_headers = Counter(
            "millwatch_malformed_headers", "Headers that are only information and did not parse", registry=registry
        )
        self.batch_frames = Histogram(
            "millwatch_batch_frames", "Frames in a batch", buckets=(1, 2, 4, 8, 16, 32, 64), registry=registry
        )
        self.decode_seconds = Histogram(
            "millwatch_decode_seconds", "Checking and decoding one frame", buckets=_SECONDS, registry=registry
        )
        self.inspect_seconds = Histogram(
            "millwatch_inspect_seconds", "Inspecting one batch, all stages", buckets=_SECONDS, registry=registry
        )
        self.commit_seconds = Histogram("millwatch_commit_seconds", "One commit", buckets=_SECONDS, registry=registry)
        self.latency_seconds = Histogram(
            "millwatch_latency_seconds",
            "From a frame's append to the commit of its verdict",
            buckets=_SECONDS,
            registry=registry,
        )

    def follow(self, figures: Callable[[], LineFigures]) -> None:
        """Show the line's own figures at each scrape. ``figures`` is called from the HTTP threads."""
        self.registry.register(_LineCollector(figures))

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class _LineCollector(Collector):
    """Reads the account instead of keeping a second one: the two could only ever disagree."""

    def __init__(self, figures: Callable[[], LineFigures]) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        now = self._figures()
        account = now.account
        frames = CounterMetricFamily("millwatch_frames", "Frames by what became of them", labels=["outcome"])
        dead = account.dead.copy()
        for outcome, count in (
            ("taken", account.taken),
            ("clean", account.clean),
            ("defective", account.defective),
            ("dead", dead.total()),
            ("returned", account.returned),
        ):
            frames.add_metric([outcome], count)
        yield frames
        reasons = CounterMetricFamily("millwatch_dead_letters", "Frames not inspected, by reason", labels=["reason"])
        for reason in sorted(REASONS):
            reasons.add_metric([reason], dead[reason])
        reasons.add_metric(["other"], sum(count for reason, count in dead.items() if reason not in REASONS))
        yield reasons
        yield CounterMetricFamily("millwatch_commits", "Commits", value=now.commits)
        yield CounterMetricFamily(
            "millwatch_aborts", "Times the line began again from committed offsets", value=now.aborts
        )
        yield CounterMetricFamily("millwatch_rebalances", "Assignments of partitions", value=now.rebalances)
        yield CounterMetricFamily(
            "millwatch_gone_frames", "Frames that the broker had deleted before they were read", value=now.gone
        )
        yield GaugeMetricFamily(
            "millwatch_in_flight_frames", "Frames taken whose verdict is not committed", value=now.in_flight
        )
        yield GaugeMetricFamily(
            "millwatch_oldest_frame_age_seconds",
            "Time since the append of the oldest frame in flight, 0 where there is none",
            value=now.oldest_age_s or 0.0,
        )
        yield GaugeMetricFamily(
            "millwatch_unread_age_seconds",
            "Time since the append of the frame before the oldest unread one, 0 where all are read",
            value=now.unread_age_s or 0.0,
        )
        yield GaugeMetricFamily(
            "millwatch_held_bytes", "Bytes of the frames in the pipeline, as sent and decoded", value=now.bytes_held
        )
        lag = GaugeMetricFamily(
            "millwatch_lag_frames", "Frames on the topic that were not read yet", labels=["partition"]
        )
        for partition, behind in sorted(now.lag.items()):
            lag.add_metric([str(partition)], behind)
        yield lag
