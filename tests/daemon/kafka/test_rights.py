"""The least rights, on a real broker with access rules: with exactly those it works, without one it says which."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import pytest
from kafka import ConsumerGroupMetadata, TopicPartition

from daemon import service
from daemon.checks import Outcome, run_checks
from daemon.errors import BrokerError
from daemon.kafka import diagnose
from daemon.kafka.rehearsal import rehearsal
from daemon.kafka.rights import Right, of_creation, of_rehearsal, of_service
from daemon.service import run_service
from daemon.settings import Settings, load_settings
from engines.build import build_cascade
from tests.support.secure_kafka import SecureKafka
from tests.support.tiny_cascade import frame_with, write_tiny_cascade
from tests.support.topics import new_lane

ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "docs/security.md"

DEFECTIVE = cv2.imencode(".png", frame_with({3: [(10, 20, 40, 12)]}))[1].tobytes()


def commands() -> list[str]:
    """The arguments of the documented commands that give rights, in their order."""
    return re.findall(r"^\$ALLOW (.*)$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)


def test_the_documented_commands_are_the_rights_that_are_needed() -> None:
    settings = load_settings()
    assert commands() == [right.arguments for right in [*of_service(settings), *of_rehearsal(settings)]]


@pytest.mark.kafka
def test_the_documented_commands_give_the_rights(secure_kafka: SecureKafka) -> None:
    settings = load_settings()
    needed = of_service(settings)
    for arguments in commands()[: len(needed)]:
        secure_kafka.tool(f"kafka-acls.sh --add --allow-principal User:documented {arguments}")
    assert secure_kafka.rights_of("documented") == set(needed)


def test_the_documented_certificates_are_good(tmp_path: Path) -> None:
    section = DOCUMENT.read_text(encoding="utf-8").partition("## Certificates")[2]
    script = section.partition("```\n")[2].partition("```")[0]
    subprocess.run(["bash", "-e"], input=script, cwd=tmp_path, text=True, check=True, capture_output=True)
    for name in ("broker", "millwatch"):
        subprocess.run(["openssl", "verify", "-CAfile", "ca.pem", f"{name}.pem"], cwd=tmp_path, check=True)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("tiny")
    cascade = write_tiny_cascade(folder / "cascade")
    build_cascade(cascade, directory=folder / "engines", backend="openvino")
    return [f"cascade={cascade}", f"engine.directory={folder / 'engines'}", "batch.max_frames=4"]


class Line:
    """A lane on the secure broker, and a user without any right."""

    def __init__(self, broker: SecureKafka, built: list[str]) -> None:
        self.broker = broker
        self.lane = new_lane(broker.bootstrap)
        name = f"line-{uuid.uuid4().hex[:8]}"
        self.user = f"CN={name}"
        self._overrides = [*built, *broker.with_certificate(name)]

    @property
    def overrides(self) -> list[str]:
        return [*self.lane.overrides, *self._overrides]

    def settings(self, *more: str) -> Settings:
        return self.lane.settings(*self._overrides, *more)

    def allow(self, rights: list[Right]) -> None:
        self.broker.allow(self.user, rights)


@pytest.fixture
def line(secure_kafka: SecureKafka, built: list[str]) -> Line:
    return Line(secure_kafka, built)


@pytest.mark.kafka
@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_with_exactly_these_rights_a_frame_comes_in_and_its_event_goes_out_once(line: Line, delivery: str) -> None:
    settings = line.settings(f"kafka.delivery={delivery}")
    line.allow(of_service(settings))
    line.lane.send([DEFECTIVE, b"no picture"])

    account = run_service(settings, until_idle_s=2.0)
    again = run_service(settings, until_idle_s=2.0)

    assert (account.taken, account.defective, account.dead.total()) == (2, 1, 1)
    assert again.taken == 0
    assert line.lane.offsets() == 2
    assert len(line.lane.committed(line.lane.events, bool)) == 1
    assert len(line.lane.committed(line.lane.dead, bool)) == 1
    assert [each for each in looked_at(settings).values() if each.exit_code] == []


def looked_at(settings: Settings, **options: Any) -> dict[str, Outcome]:
    return {each.item: each for each in run_checks(settings, **{"offline": False, "create": False, **options})}


SERVICE = of_service(load_settings())


@pytest.mark.kafka
@pytest.mark.parametrize("left_out", range(len(SERVICE)), ids=[str(right) for right in SERVICE])
@pytest.mark.parametrize("seen", [False, True], ids=["no right at all", "only DESCRIBE"])
def test_without_one_of_them_it_is_named(line: Line, left_out: int, seen: bool) -> None:
    settings = line.settings()
    rights = of_service(settings)
    missing = rights[left_out]
    rights[left_out : left_out + 1] = [Right("Describe", missing.resource, missing.name, missing.prefixed)] * seen
    line.allow(rights)
    line.lane.send([DEFECTIVE])

    with pytest.raises(BrokerError) as caught:
        run_service(settings, until_idle_s=2.0)

    assert str(caught.value) == missing.missing
    assert caught.value.exit_code == 3
    assert line.lane.offsets() == 0
    refused = [each for each in looked_at(settings).values() if each.exit_code]
    # Of these a broker tells who may see them only that.
    told_late = seen and missing.resource in ("group", "transactional-id")
    assert [(each.detail, each.exit_code) for each in refused] == ([] if told_late else [(missing.missing, 3)])


@pytest.mark.kafka
@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
@pytest.mark.parametrize("seen", [False, True], ids=["no right at all", "only DESCRIBE"])
def test_a_right_that_is_taken_away_later_is_named_too(line: Line, delivery: str, seen: bool) -> None:
    settings = line.settings(f"kafka.delivery={delivery}")
    missing = Right("Write", "topic", line.lane.events)
    rights = [right for right in of_service(settings) if right != missing]
    line.allow([*rights, *[Right("Describe", "topic", line.lane.events)] * seen])
    membership = ConsumerGroupMetadata(settings.kafka.group, 1, "member", None)
    consumer: Any = SimpleNamespace(membership=lambda: membership, commit=None)

    def deliver() -> None:
        with diagnose.naming(of_service(settings)), service._delivery(settings, consumer) as opened:
            opened.send(line.lane.events, b"cam-1", b"event", [])
            opened.commit({TopicPartition(line.lane.frames, 0): 1})

    with pytest.raises(BrokerError) as caught:
        deliver()

    assert str(caught.value) == missing.missing


@pytest.mark.kafka
def test_making_topics_needs_a_right_of_its_own(line: Line) -> None:
    settings = line.settings(
        *(f"kafka.topics.{key}={line.lane.name}.new.{key}" for key in ("frames", "events", "dead"))
    )
    line.allow(of_service(settings))
    creation = of_creation(settings)
    refused = [each.detail for each in looked_at(settings, create=True).values() if each.exit_code]
    assert refused == ["; ".join(right.missing for right in creation)]
    line.allow(creation)
    assert [each for each in looked_at(settings, create=True).values() if each.exit_code] == []


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("arguments", "operation"),
    [(["watch"], "Read"), (["record", "--output", "r.parquet"], "Read"), (["replay"], "Write")],
)
@pytest.mark.parametrize("seen", [False, True], ids=["no right at all", "only DESCRIBE"])
def test_other_commands_say_what_they_lack(
    line: Line, arguments: list[str], operation: str, seen: bool, tmp_path: Path
) -> None:
    topic = line.lane.events if arguments == ["watch"] else line.lane.frames
    line.lane.send([DEFECTIVE])
    line.allow([Right("Describe", "topic", topic)] * seen)
    if arguments == ["replay"]:
        (tmp_path / "frame.png").write_bytes(DEFECTIVE)
        arguments = ["replay", "frame.png"]
    chosen = [word for override in line.overrides for word in ("--set", override)]
    done = subprocess.run(
        [sys.executable, "-m", "daemon", *arguments, *chosen],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 3
    expected = (
        Right(operation, "topic", topic).missing if seen else f"topic {topic} does not exist, or this user has no"
    )
    assert expected in done.stderr.splitlines()[-1]


REHEARSAL = of_rehearsal(load_settings())


@pytest.mark.kafka
def test_a_rehearsal_with_exactly_its_rights(line: Line) -> None:
    settings = line.settings()
    line.allow([*of_service(settings), *of_rehearsal(settings)])
    with rehearsal(settings) as checks:
        for _, check in checks:
            check()


@pytest.mark.kafka
@pytest.mark.parametrize("left_out", range(len(REHEARSAL)), ids=[str(right) for right in REHEARSAL])
def test_a_rehearsal_names_the_right_that_is_missing(line: Line, left_out: int) -> None:
    settings = line.settings()
    rights = of_rehearsal(settings)
    missing = rights.pop(left_out)
    line.allow([*of_service(settings), *rights])
    told = [each for each in looked_at(settings, transactions=True).values() if each.exit_code]
    assert told
    for each in told:
        assert each.exit_code == 3
        assert f"no right {missing.operation.upper()} on {missing.resource} {missing.name}" in each.detail
        assert f"--operation {missing.operation} --{missing.resource} {missing.name}" in each.detail
