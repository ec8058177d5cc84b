from __future__ import annotations

from pathlib import Path

import pytest

from daemon.checks import Outcome, run_checks
from engines import gpu_jpeg
from engines.build import build_cascade
from engines.errors import DeviceError
from tests.support.tiny_cascade import write_tiny_cascade
from tests.support.topics import Lane, new_lane


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("checked")
    cascade = write_tiny_cascade(folder / "cascade")
    build_cascade(cascade, directory=folder / "engines", backend="openvino")
    return [f"cascade={cascade}", f"engine.directory={folder / 'engines'}", "engine.backend=openvino"]


@pytest.fixture
def embedded(embedded_broker: str) -> Lane:
    return new_lane(embedded_broker)


def looked_at(lane: Lane, *overrides: str, offline: bool = False, create: bool = False) -> dict[str, Outcome]:
    found = list(run_checks(lane.settings(*overrides), offline=offline, create=create))
    outcomes = {outcome.item: outcome for outcome in found}
    assert len(outcomes) == len(found)
    return outcomes


OFFLINE = Lane("127.0.0.1:1", "offline")


def test_everything_is_right(embedded: Lane, built: list[str]) -> None:
    outcomes = looked_at(embedded, *built)
    assert {item: outcome.exit_code for item, outcome in outcomes.items() if outcome.exit_code} == {}
    assert list(outcomes) == [
        "configuration", "cascade", "device", "decoder", "engines",
        "broker", "topic frames", "topic events", "topic dead", "delivery", "names",
    ]  # fmt: skip
    assert "the device answers" in outcomes["engines"].detail
    assert outcomes["topic frames"].detail == f"{embedded.frames}, 4 partitions"


def test_offline_asks_no_broker(built: list[str]) -> None:
    assert "broker" not in looked_at(OFFLINE, *built, offline=True)


def test_a_broker_that_is_down_hides_nothing_else(built: list[str]) -> None:
    outcomes = looked_at(OFFLINE, *built)
    assert outcomes["broker"].exit_code == 3
    assert "connection refused" in outcomes["broker"].detail
    assert list(outcomes)[-1] == "broker"


def test_missing_topics_are_made_when_asked(embedded: Lane, built: list[str]) -> None:
    other = f"kafka.topics.frames={embedded.name}.other"
    assert looked_at(embedded, *built, other)["topic frames"].exit_code == 3
    assert looked_at(embedded, *built, other, create=True)["topic frames"].exit_code == 0
    assert looked_at(embedded, *built, other)["topic frames"].detail.endswith("4 partitions")


def test_engines_that_are_missing(built: list[str], tmp_path: Path) -> None:
    nowhere = f"engine.directory={tmp_path}"
    kept = looked_at(OFFLINE, *built, nowhere, "engine.rebuild=false", offline=True)["engines"]
    assert kept.exit_code == 4
    assert "millwatch build-engines" in kept.detail
    built_at_start = looked_at(OFFLINE, *built, nowhere, offline=True)["engines"]
    assert built_at_start.exit_code == 0
    assert "run builds them at its start" in built_at_start.detail


@pytest.mark.parametrize("place", ["/proc/x", "file/x", "file"])
def test_a_folder_where_engines_cannot_be_built_is_told_with_its_key(
    built: list[str], tmp_path: Path, place: str
) -> None:
    (tmp_path / "file").write_text("")
    engines = looked_at(OFFLINE, *built, f"engine.directory={tmp_path / place}", offline=True)["engines"]
    assert engines.exit_code == 4
    assert "engines cannot be written there: N" in engines.detail
    assert "engine.directory" in engines.detail


def test_looking_whether_engines_can_be_built_leaves_nothing_behind(built: list[str], tmp_path: Path) -> None:
    place = f"engine.directory={tmp_path / 'a' / 'b'}"
    assert looked_at(OFFLINE, *built, place, offline=True)["engines"].exit_code == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", ["cascade=nowhere", "classes.9.threshold=0.5"])
def test_a_cascade_that_is_missing_or_lacks_the_class_is_told_once(built: list[str], wrong: str) -> None:
    outcomes = looked_at(OFFLINE, *built, wrong, offline=True)
    assert outcomes["cascade"].exit_code == 2
    assert list(outcomes) == ["configuration", "cascade", "device", "decoder", "engines"]
    assert outcomes["engines"] == Outcome("engines", "not checked, since the cascade is not right", skipped=True)


def test_a_device_that_is_not_there_is_told_once(built: list[str]) -> None:
    outcomes = looked_at(OFFLINE, *built, "engine.backend=tensorrt", offline=True)
    assert outcomes["device"].exit_code in (4, 5)
    assert outcomes["device"].detail
    assert list(outcomes) == ["configuration", "cascade", "device", "decoder", "engines"]
    assert outcomes["engines"] == Outcome("engines", "not checked, since the device is not right", skipped=True)


def test_a_decoder_that_is_not_there_is_told_and_hides_nothing_else(
    built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(decoders: int, *, device: int) -> None:
        raise DeviceError("the package nvidia-nvimgcodec-cu13 cannot be imported")

    monkeypatch.setattr(gpu_jpeg, "open_jpeg_decoder", refuses)
    outcomes = looked_at(OFFLINE, *built, "input.jpeg_decoder=gpu", offline=True)
    assert outcomes["decoder"] == Outcome("decoder", "the package nvidia-nvimgcodec-cu13 cannot be imported", 5)
    assert outcomes["engines"].exit_code == 0
    assert looked_at(OFFLINE, *built, offline=True)["decoder"] == Outcome("decoder", "JPEG on the processor")
