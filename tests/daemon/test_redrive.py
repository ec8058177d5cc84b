"""Dead letters back into the camera topic, on a broker: each once, whatever is chosen and whatever happens."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka import errors as kafka_errors

from daemon import camera_topic, redrive, returning_frames
from daemon.deadletters import capture_time, dead_letter
from daemon.errors import BrokerError, FencedError, UncommittedError
from daemon.frames import Frame, FrameMeta
from daemon.pipeline import Rejection
from daemon.record import Bound
from daemon.redrive import Outcome, Selection, redriver
from engines.errors import UsageError
from tests.support.topics import PATIENCE_S, Lane

pytestmark = pytest.mark.kafka

NOW_MS = round(time.time() * 1000)
ALL = Selection()


@dataclass(frozen=True)
class Death:
    """How a frame died: what the service was given, and why it gave up."""

    value: bytes | None
    reason: str = "checksum"
    key: bytes | None = b"cam-1"
    headers: tuple[tuple[str, bytes | None], ...] = ()
    topic: str | None = None
    partition: int = 0
    offset: int = 10_000
    timestamp_ms: int = NOW_MS - 60_000
    died_ms: int | None = None
    max_bytes: int = 1_000_000


def bury(lane: Lane, deaths: Sequence[Death], *, topic: str | None = None, partitions: int = 1) -> None:
    """Put the letters of frames on the dead-letter topic, as the service does."""
    producer = KafkaProducer(bootstrap_servers=lane.bootstrap, max_request_size=2**24)
    sent = []
    for number, death in enumerate(deaths):
        meta = FrameMeta(
            death.topic or lane.frames,
            death.partition,
            death.offset,
            death.timestamp_ms,
            death.timestamp_ms,
            death.key,
            "cam-1",
            None,
            None,
            None,
            death.headers,
        )
        letter = dead_letter(Frame(meta, death.value), Rejection(death.reason, "why"), death.max_bytes)
        sent.append(
            producer.send(
                topic or lane.dead,
                letter.value,
                key=letter.key,
                headers=letter.headers,
                partition=number % partitions,
                timestamp_ms=death.died_ms,
            )
        )
    for future in sent:
        future.get(PATIENCE_S)
    producer.close()


def go(lane: Lane, selection: Selection = ALL, *more: str, dry_run: bool = False) -> Outcome:
    with redriver(lane.settings(*more), selection, dry_run=dry_run) as opened:
        return opened.run()


def returned(lane: Lane, count: int) -> list[Any]:
    """The committed frames of the camera topic, once there are ``count`` and no more came."""
    return lane.committed(lane.frames, lambda seen: len(seen) >= count)


def values(records: Sequence[Any]) -> list[bytes]:
    return sorted(record.value for record in records)


def group_account(lane: Lane) -> str:
    consumer = KafkaConsumer(
        bootstrap_servers=lane.bootstrap, group_id=f"{lane.name}.redrive", isolation_level="read_committed"
    )
    try:
        noted = consumer.committed(TopicPartition(lane.dead, 0), metadata=True)
        return "" if noted is None else str(noted.metadata)
    finally:
        consumer.close()


def test_a_frame_comes_back_as_it_was_and_says_where_from(lane: Lane) -> None:
    headers = (("coil-id", b"C42"), ("nothing", None), ("captured-at", b"2026-11-22T10:00:00Z"))
    bury(lane, [Death(b"one", headers=headers, partition=3, key=b"cam-9"), Death(b"two", partition=77, key=None)])
    assert go(lane).put_back == {"checksum": 2}
    one, two = sorted(returned(lane, 2), key=lambda record: record.value)
    assert (one.key, one.value, one.partition) == (b"cam-9", b"one", 3)
    assert one.headers == [
        ("coil-id", b"C42"),
        ("nothing", b""),
        ("captured-at", b"2026-11-22T10:00:00Z"),
        ("millwatch-redriven", f"{lane.dead}-0-0".encode()),
    ]
    assert (two.key, two.value) == (None, b"two")
    captured = dict(two.headers)["captured-at"].decode()
    assert captured == capture_time(NOW_MS - 60_000).decode()  # type: ignore[union-attr]


def test_a_frame_that_dies_again_comes_back_with_the_newer_letter_as_its_origin(lane: Lane) -> None:
    bury(lane, [Death(b"x", headers=(("millwatch-redriven", b"elsewhere-0-5"), ("millwatch-detail", b"old")))])
    (letter,) = lane.committed(lane.dead, bool)
    assert ("millwatch-redriven", b"elsewhere-0-5") in letter.headers
    go(lane, Selection(died_again=True))
    (frame,) = returned(lane, 1)
    names = [name for name, _ in frame.headers if name.startswith("millwatch-")]
    assert names == ["millwatch-redriven"]
    assert dict(frame.headers)["millwatch-redriven"] == f"{lane.dead}-0-0".encode()


def test_a_frame_that_died_again_stays_until_it_is_asked_for_and_then_comes_back_once(lane: Lane) -> None:
    redriven = (("millwatch-redriven", b"elsewhere-0-5"),)
    big = b"x" * 20_000
    lane.send([big], partitions=1, millwatch_redriven="elsewhere-0-6")
    # Of the last the letter has lost its headers, for their size, and the frame itself tells.
    fetched = Death(big, "truncated", headers=(), offset=0, max_bytes=10_000)
    bury(lane, [Death(b"once"), Death(b"again", headers=redriven), Death(b"stale", "stale", headers=redriven), fetched])
    for selection in (ALL, Selection(again=True)):
        outcome = go(lane, selection)
        assert outcome.put_back == {"checksum": 1}
        assert outcome.left_behind == {
            ("checksum", returning_frames.DIED_AGAIN): 1,
            ("stale", returning_frames.DIED_AGAIN): 1,
            ("truncated", returning_frames.DIED_AGAIN): 1,
        }
    asked = Selection(died_again=True)
    assert go(lane, replace(asked, reasons=frozenset({"checksum", "truncated"}))).put_back.total() == 2
    assert go(lane, asked).put_back == {"stale": 1}
    assert (go(lane, asked).put_back.total(), go(lane).put_back_before.total()) == (0, 4)
    assert values(returned(lane, 6)) == sorted([big, b"once", b"once", b"again", b"stale", big])


def test_each_letter_comes_back_once_whatever_is_chosen_in_whatever_order(lane: Lane) -> None:
    chance = random.Random(5)
    reasons = ["checksum", "truncated", "stale"]
    # Two partitions of letters: the topic of the events has two.
    swapped = [f"kafka.topics.dead={lane.events}", f"kafka.topics.events={lane.dead}"]
    bury(lane, [Death(b"%03d" % at, chance.choice(reasons)) for at in range(120)], topic=lane.events, partitions=2)
    put_back = 0
    for _ in range(12):
        start = chance.randrange(60)
        selection = Selection(
            Bound("offset", start),
            Bound("offset", start + chance.randrange(1, 30)),
            frozenset(chance.sample(reasons, chance.randint(1, 3))),
            limit=chance.choice([None, 3, 9]),
        )
        put_back += go(lane, selection, *swapped).put_back.total()
    assert 0 < put_back < 120
    rest = go(lane, ALL, *swapped)
    assert rest.put_back.total() + put_back == rest.put_back_before.total() + rest.put_back.total() == 120
    assert values(returned(lane, 120)) == [b"%03d" % at for at in range(120)]
    assert go(lane, ALL, *swapped).put_back_before.total() == 120
    assert len(returned(lane, 120)) == 120


def test_a_topic_that_was_put_back_whole_has_one_range_for_each_reason(lane: Lane) -> None:
    bury(lane, [Death(b"%d" % at, ["checksum", "stale"][at % 2]) for at in range(10)])
    for reason in ("stale", "checksum"):
        go(lane, Selection(reasons=frozenset({reason})))
    assert group_account(lane) == "1 checksum=0.9 stale=0.a"


def test_a_range_of_times_takes_the_letters_of_those_times_and_loses_none(lane: Lane) -> None:
    # Two instances wrote: times do not rise with offsets.
    ages_s = [50, 40, 30, 45, 20, 10]
    bury(lane, [Death(b"%d" % age, died_ms=NOW_MS - 1000 * age) for age in ages_s])
    middle = go(lane, Selection(Bound("time", NOW_MS - 42_000), Bound("time", NOW_MS - 15_000)))
    assert middle.put_back.total() == 3
    assert values(returned(lane, 3)) == [b"20", b"30", b"40"]
    rest = go(lane)
    assert (rest.put_back.total(), rest.put_back_before.total()) == (3, 3)
    assert values(returned(lane, 6)) == sorted(b"%d" % age for age in ages_s)


def test_a_dry_run_counts_and_sends_nothing(lane: Lane) -> None:
    bury(lane, [Death(b"1"), Death(b"2", "stale"), Death(b"3")])
    with redriver(lane.settings(), ALL) as running:
        dry = go(lane, Selection(limit=2), dry_run=True)
        assert dry.put_back == {"checksum": 1, "stale": 1}
        assert group_account(lane) == ""
        # Looking must not end a run that is at work.
        assert running.run().put_back.total() == 3
    assert go(lane, dry_run=True).put_back_before == {"checksum": 2, "stale": 1}
    assert len(returned(lane, 3)) == 3


def test_again_puts_back_what_was_put_back_before(lane: Lane) -> None:
    bury(lane, [Death(b"1"), Death(b"2")])
    go(lane, Selection(limit=1))
    assert go(lane, Selection(again=True)).put_back.total() == 2
    assert values(returned(lane, 3)) == [b"1", b"1", b"2"]
    assert go(lane).put_back_before.total() == 2


def test_a_value_that_was_left_out_is_fetched_from_its_source(lane: Lane) -> None:
    big = os.urandom(20_000)
    lane.send([b"first", big, b"last"], partitions=1, coil_id="C1")
    lost = Death(big, "truncated", headers=(("coil-id", b"C1"),), offset=1, max_bytes=10_000)
    elsewhere = [replace(lost, offset=2), replace(lost, offset=500), replace(lost, partition=99)]
    # One between two that stay behind: whatever is noted of it must not pass for a note of them.
    bury(lane, [*elsewhere[:2], lost, elsewhere[2]])
    outcome = go(lane)
    assert outcome.put_back == {"truncated": 1}
    assert outcome.left_behind == {
        ("truncated", returning_frames.SOURCE_CHANGED): 1,
        ("truncated", returning_frames.SOURCE_GONE): 2,
    }
    *_, frame = sorted(returned(lane, 4), key=lambda record: (record.partition, record.offset))
    assert (frame.partition, frame.key, frame.value) == (0, b"cam-1", big)
    assert list(dict(frame.headers)) == ["coil-id", "captured-at", "millwatch-redriven"]
    # What stays behind is not taken for put back.
    again = go(lane)
    assert (again.put_back_before.total(), again.left_behind.total(), again.put_back.total()) == (1, 3, 0)


def test_a_missing_value_comes_back_missing_and_an_empty_one_empty(lane: Lane) -> None:
    lane.send([None], partitions=1, note="n" * 5_000)
    # Of the last the letter holds no headers, for their size: all of it is fetched from its source.
    fetched = Death(None, "empty", headers=(("note", b"n" * 5_000),), offset=0, max_bytes=3_000)
    bury(lane, [Death(None, "empty", key=b"cam-7"), Death(b"", "empty", key=b"cam-8"), fetched])
    letters = lane.committed(lane.dead, lambda seen: len(seen) >= 3)
    assert [letter.value for letter in letters] == [None, b"", None]
    assert go(lane).put_back == {"empty": 3}
    frames = {record.key: record for record in returned(lane, 4) if "millwatch-redriven" in dict(record.headers)}
    assert {key: record.value for key, record in frames.items()} == {b"cam-7": None, b"cam-8": b"", b"cam-1": None}
    assert dict(frames[b"cam-1"].headers)["note"] == b"n" * 5_000


def test_what_cannot_be_put_back_is_counted_with_the_reason(lane: Lane) -> None:
    bury(lane, [Death(b"fine"), Death(b"astray", topic="other.frames"), Death(b"x" * 150_000, "too-large")])
    producer = KafkaProducer(bootstrap_servers=lane.bootstrap)
    producer.send(lane.dead, b"no letter", partition=0)
    producer.send(lane.dead, b"no source", partition=0, headers=[("millwatch-reason", b"stale")])
    producer.flush()
    producer.close()
    outcome = go(lane, ALL, "input.max_bytes=1000", "kafka.max_message_bytes=100000", "events.max_bytes=65536")
    assert outcome.put_back == {"checksum": 1}
    assert outcome.left_behind == {
        ("checksum", returning_frames.OTHER_TOPIC): 1,
        ("too-large", returning_frames.TOO_LARGE): 1,
        ("-", redrive.NOT_A_LETTER): 1,
        ("stale", returning_frames.NO_SOURCE): 1,
    }
    assert outcome.lines("f", dry_run=False) == [
        "1 put back into f, 0 put back before, 4 left behind",
        f"  -: 1 left behind: {redrive.NOT_A_LETTER}",
        f"  checksum: 1 put back, 1 left behind: {returning_frames.OTHER_TOPIC}",
        f"  stale: 1 left behind: {returning_frames.NO_SOURCE}",
        f"  too-large: 1 left behind: {returning_frames.TOO_LARGE}",
    ]
    assert values(returned(lane, 1)) == [b"fine"]


def test_a_second_run_fences_the_first(lane: Lane) -> None:
    bury(lane, [Death(b"%d" % at) for at in range(5)])
    outcomes = []

    def overtaken() -> None:
        with redriver(lane.settings(), ALL) as first:
            outcomes.append(first.outcome)
            outcomes.append(go(lane, Selection(limit=3)))
            first.run()

    with pytest.raises(FencedError, match="another millwatch redrive of the group") as raised:
        overtaken()
    assert raised.value.exit_code == 7
    assert [outcome.put_back.total() for outcome in outcomes] == [0, 3]
    assert go(lane).put_back.total() == 2
    assert values(returned(lane, 5)) == [b"%d" % at for at in range(5)]


@pytest.mark.parametrize("step", ["add_offsets", "commit"])
def test_a_transaction_that_fails_puts_nothing_back(lane: Lane, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def fail(*_: object) -> None:
        raise kafka_errors.KafkaTimeoutError("the coordinator is away")

    bury(lane, [Death(b"%d" % at) for at in range(3)])
    with monkeypatch.context() as patched:
        patched.setattr(camera_topic.transactions, step, fail)
        with pytest.raises(BrokerError, match="the coordinator is away"):
            go(lane)
    assert returned(lane, 0) == []
    assert go(lane).put_back.total() == 3
    assert len(returned(lane, 3)) == 3


def test_an_account_that_no_longer_fits_ends_it_before_anything_is_sent(
    lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    bury(lane, [Death(b"%d" % at) for at in range(40)])
    monkeypatch.setattr(redrive, "MAX_TEXT_BYTES", 30)

    def scattered() -> None:
        for at in range(0, 40, 2):
            go(lane, Selection(Bound("offset", at), Bound("offset", at + 1)))

    with pytest.raises(UncommittedError, match="too many to be noted") as raised:
        scattered()
    assert raised.value.exit_code == 6
    put_back = len(returned(lane, 1))
    assert 0 < put_back < 20
    assert go(lane).put_back.total() == 40 - put_back
    assert values(returned(lane, 40)) == sorted(b"%d" % at for at in range(40))


def test_an_offset_that_somebody_else_committed_is_not_taken_for_an_account(lane: Lane) -> None:
    bury(lane, [Death(b"1")])
    consumer = KafkaConsumer(bootstrap_servers=lane.bootstrap, group_id=f"{lane.name}.redrive")
    partition = TopicPartition(lane.dead, 0)
    consumer.assign([partition])
    for offset, text, said in [
        (1, "", "redrive did not commit"),
        (9, "1 checksum=0.9", "another topic of the same name"),
    ]:
        consumer.commit({partition: OffsetAndMetadata(offset, text, -1)})
        with pytest.raises(UsageError, match=said):
            go(lane)
    consumer.close()
    assert returned(lane, 0) == []


def test_old_letters_without_an_account_are_warned_of(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(redrive, "ACCOUNT_KEPT_MS", 30_000)
    monkeypatch.setattr(redrive.log, "warning", lambda text, **_: warnings.append(text))
    bury(lane, [Death(b"1", died_ms=NOW_MS - 600_000), Death(b"2", died_ms=NOW_MS - 600_000)])
    go(lane, Selection(limit=1))
    assert len(warnings) == 1
    go(lane)
    assert len(warnings) == 1


def test_a_range_that_is_open_is_refused() -> None:
    with pytest.raises(UsageError, match="--until lies in the future"):
        Selection(until=Bound("time", round(time.time() * 1000) + 60_000))


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_puts_each_letter_back_once(lane: Lane) -> None:
    count = 2_000
    chance = random.Random(11)
    bury(lane, [Death(b"%05d" % at, chance.choice(["checksum", "stale"])) for at in range(count)])
    program = (
        "from daemon import redrive; from daemon.cli import main; redrive.MAX_BATCH_FRAMES = 10; main()"  # 200 commits
    )
    command = [sys.executable, "-c", program, "redrive", *(f"--set={override}" for override in lane.overrides)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    kills = 0
    for _ in range(4):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True)
        before = group_account(lane)
        deadline = time.monotonic() + PATIENCE_S
        while group_account(lane) == before and process.poll() is None:
            assert time.monotonic() < deadline
        time.sleep(chance.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
    assert kills >= 2, "it had finished before it could be killed"
    done = subprocess.run(command, capture_output=True, env=environment, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seen = Counter(record.value for record in returned(lane, count))
    assert (len(seen), seen.total()) == (count, count)
    assert group_account(lane).count(".") == 2
