"""Each scenario in a short form, on Apache Kafka: nothing lost, nothing repeated, nothing wrong, and no hand needed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.faults import report
from tests.faults.brokers import FaultyKafka
from tests.faults.rig import Options, Rig, Run
from tests.faults.run import unavailable
from tests.faults.scenarios import SCENARIOS, Size

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engines")


def injured(name: str, folder: Path, engines: Path, size: Size, kafka: FaultyKafka | None = None) -> Run:
    """What came of a short run of a scenario, in which nothing may have gone wrong."""
    scenario = SCENARIOS[name]
    reason = unavailable(scenario, "apache")
    if reason is not None:
        pytest.skip(reason)
    options = Options(scenario=scenario, size=size, rate=scenario.rate, broker="apache", delivery="exactly_once")
    (folder / "broker").mkdir()
    with Rig(options, folder, kafka=kafka, engines=engines) as rig:
        run = rig.run()
    assert run.stopped == []
    assert run.comparison.examples == []
    assert report.good(options, run)
    assert len(run.injected) == size.faults
    assert all(injected.over_ms is not None for injected in run.injected)
    assert run.comparison.sent >= size.frames
    assert set(run.comparison.by_kind) >= {"defective", "clean", "no-picture", "half-picture", "empty"}
    return run


def test_an_instance_is_killed(tmp_path: Path, engines: Path, hurt_kafka: FaultyKafka) -> None:
    run = injured("kills", tmp_path, engines, Size(1, 4, 1_600), hurt_kafka)
    assert run.exits["i1"][-9] == 4


def test_instances_of_a_group_are_killed_ended_and_frozen(
    tmp_path: Path, engines: Path, hurt_kafka: FaultyKafka
) -> None:
    run = injured("group", tmp_path, engines, Size(1, 3, 0), hurt_kafka)
    assert Counter(injected.fault.kind for injected in run.injected) == {"kill": 1, "end": 1, "freeze": 1}
    assert all(injected.partitions for injected in run.injected)


def test_the_device_fails_for_good_for_a_batch_and_for_a_frame(
    tmp_path: Path, engines: Path, hurt_kafka: FaultyKafka
) -> None:
    run = injured("device-faults", tmp_path, engines, Size(1, 2, 1_200), hurt_kafka)
    # On a busy machine the second failure may come before the first has ended the process.
    assert run.exits["i1"][5] in (1, 2)
    assert run.comparison.by_kind["poisoned"] > 0


def test_a_consumer_of_the_events_is_stalled(tmp_path: Path, engines: Path, hurt_kafka: FaultyKafka) -> None:
    run = injured("stalled-consumer", tmp_path, engines, Size(1, 1, 600, longest_s=4.0), hurt_kafka)
    assert run.reader is not None
    assert run.reader.sent == run.comparison.sent


def test_the_broker_stands_still(tmp_path: Path, engines: Path, hurt_kafka: FaultyKafka) -> None:
    run = injured("broker-pauses", tmp_path, engines, Size(1, 1, 500, longest_s=8.0), hurt_kafka)
    assert run.exits["i1"] == {0: 1}


def test_the_broker_is_restarted_and_crashes(tmp_path: Path, engines: Path, hurt_kafka: FaultyKafka) -> None:
    run = injured("broker-restarts", tmp_path, engines, Size(1, 2, 800), hurt_kafka)
    assert run.exits["i1"] == {0: 1}


def test_the_network_is_cut(tmp_path: Path, engines: Path) -> None:
    run = injured("network-cuts", tmp_path, engines, Size(1, 1, 500, longest_s=8.0))
    assert run.exits["i1"] == {0: 1}


def test_the_disk_of_the_broker_is_full(tmp_path: Path, engines: Path) -> None:
    run = injured("full-disk", tmp_path, engines, Size(1, 1, 600, longest_s=3.0))
    assert run.exits["i1"] == {0: 1}
