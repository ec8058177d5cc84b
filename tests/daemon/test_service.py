from __future__ import annotations

import json
import struct
import threading
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from crc32c import crc32c
from kafka import KafkaProducer
from structlog.testing import capture_logs

from daemon import service
from daemon.accounting import Account
from daemon.embedded_broker import free_port
from daemon.inspector import open_inspector
from daemon.service import run_service
from daemon.settings import load_settings
from engines import gpu_jpeg, rle
from engines.errors import DeviceError
from tests.support.running_service import run
from tests.support.tiny_cascade import GREY, frame_with, mask_of, write_tiny_cascade
from tests.support.topics import Lane, NotUtf8

pytestmark = pytest.mark.kafka

CLEAN = frame_with()
DEFECTIVE = frame_with({3: [(10, 20, 40, 12)]})


def png(image: np.ndarray[Any, Any]) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Settings of the tiny cascade, whose engines are built once."""
    folder = tmp_path_factory.mktemp("tiny")
    cascade = write_tiny_cascade(folder / "cascade")
    return [f"cascade={cascade}", f"engine.directory={folder / 'engines'}", "batch.max_frames=4"]


def test_defective_frames_have_an_event_and_clean_ones_have_none(lane: Lane, built: list[str]) -> None:
    sent = lane.send([png(DEFECTIVE if number % 5 == 0 else CLEAN) for number in range(50)], coil_id="C1")
    account = run(lane, sent, *built)
    assert (account.taken, account.clean, account.defective, account.dead.total()) == (sent, 40, 10, 0)
    assert account.balances(0)
    assert lane.offsets() == sent
    events = [json.loads(record.value) for record in lane.committed(lane.events, lambda seen: len(seen) >= 10)]
    assert len({event["id"] for event in events}) == len(events) == 10
    for event in events:
        assert (event["coil"], event["camera"], event["width"], event["height"]) == ("C1", "cam-1", 160, 64)
        (defect,) = event["defects"]
        mask = rle.decode(defect["rle"], 64, 160)
        assert np.array_equal(mask, mask_of(DEFECTIVE, 3))
        assert (defect["class"], defect["area_px"], defect["box"]) == (3, int(mask.sum()), [10, 20, 40, 12])


def test_events_come_in_the_order_of_their_frames_in_each_partition(lane: Lane, built: list[str]) -> None:
    lane.send([png(DEFECTIVE)] * 60)
    run(lane, 60, *built)
    by_source: dict[int, list[int]] = {}
    for record in lane.committed(lane.events, lambda seen: len(seen) >= 60):
        _, partition, offset = json.loads(record.value)["id"].rsplit("-", 2)
        by_source.setdefault(int(partition), []).append(int(offset))
    assert {partition: sorted(offsets) for partition, offsets in by_source.items()} == by_source
    assert sum(map(len, by_source.values())) == 60


def test_all_frames_have_an_event_where_all_are_published(lane: Lane, built: list[str]) -> None:
    lane.send([png(CLEAN), png(DEFECTIVE)])
    run(lane, 2, *built, "events.publish=all")
    records = lane.committed(lane.events, lambda seen: len(seen) >= 2)
    assert Counter(json.loads(record.value)["verdict"] for record in records) == {"clean": 1, "defective": 1}


def bomb() -> bytes:
    """A PNG of 60,000 x 60,000 pixels in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def turned_jpeg(image: np.ndarray[Any, Any]) -> bytes:
    """A JPEG whose EXIF asks for a turn by 90 degrees."""
    jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    tiff = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    exif = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


def test_bad_frames_between_good_ones_are_dead_with_their_reason_and_legitimate_ones_are_inspected(
    lane: Lane, built: list[str]
) -> None:
    jpeg = cv2.imencode(".jpg", DEFECTIVE)[1].tobytes()
    frames: list[tuple[str, bytes, dict[str, str]]] = [
        ("clean", png(CLEAN), {}),
        ("empty", b"", {}),
        ("unknown-format", b"this is a sentence, not a picture", {}),
        ("truncated", jpeg[: len(jpeg) // 2], {}),
        ("wrong-size", bomb(), {}),
        ("checksum", png(CLEAN), {"crc32c": f"{crc32c(b'something else'):08x}"}),
        ("wrong-size", png(np.zeros((1, 1), np.uint8)), {}),
        ("bad-header", CLEAN.tobytes(), {"content-type": "application/x-gray8"}),
        ("unreadable", png(DEFECTIVE), {NotUtf8(): "1", "coil-id": "C1"}),
        ("defective", png(DEFECTIVE.astype(np.uint16) << 8), {}),
        ("defective", png(cv2.cvtColor(DEFECTIVE, cv2.COLOR_GRAY2BGR)), {}),
        ("defective", turned_jpeg(DEFECTIVE), {}),
        ("defective", png(DEFECTIVE), {"crc32c": f"{crc32c(png(DEFECTIVE)):08x}"}),
        ("clean", png(CLEAN), {}),
    ]
    producer = KafkaProducer(bootstrap_servers=lane.bootstrap)
    for _, value, headers in frames:
        producer.send(
            lane.frames, value, key=b"cam-1", partition=0, headers=[(k, v.encode()) for k, v in headers.items()]
        )
    producer.flush()
    producer.close()

    account = run(lane, len(frames), *built)

    expected = Counter(outcome for outcome, _, _ in frames)
    assert (account.taken, account.clean, account.defective) == (
        len(frames),
        expected.pop("clean"),
        expected.pop("defective"),
    )
    assert account.dead == expected
    letters = lane.committed(lane.dead, lambda seen: len(seen) >= account.dead.total())
    by_source = {dict(letter.headers)["millwatch-source"].decode(): letter for letter in letters}
    for offset, (outcome, value, _) in enumerate(frames):
        if outcome not in ("clean", "defective"):
            letter = by_source[f"{lane.frames}-0-{offset}"]
            assert dict(letter.headers)["millwatch-reason"].decode() == outcome
            assert letter.value == value
            if outcome == "unreadable":
                assert dict(letter.headers)["coil-id"] == b"C1"
    events = [json.loads(record.value) for record in lane.committed(lane.events, lambda seen: len(seen) >= 4)]
    assert [(event["width"], event["height"]) for event in events] == [(160, 64)] * 4
    assert {defect["class"] for event in events for defect in event["defects"]} == {3}
    assert lane.offsets() == len(frames)


def test_stale_frames_are_dead_in_their_place_and_only_where_the_policy_is_on(lane: Lane, built: list[str]) -> None:
    # By the minute: old enough for the policy, young enough for any retention.
    ages_s = [600, 0, 600, 600, 0, -3600, 600, 0]
    producer = KafkaProducer(bootstrap_servers=lane.bootstrap)
    now_ms = round(time.time() * 1000)
    for age_s in ages_s:
        producer.send(lane.frames, png(DEFECTIVE), key=b"cam-1", partition=0, timestamp_ms=now_ms - 1000 * age_s)
    producer.flush()
    producer.close()

    account = run(lane, 8, *built, "input.max_age_s=300")

    stale = [offset for offset, age_s in enumerate(ages_s) if age_s == 600]
    assert (account.taken, account.defective, account.dead) == (8, 4, Counter(stale=4))
    assert account.balances(0)
    assert lane.offsets() == 8
    letters = [dict(letter.headers) for letter in lane.committed(lane.dead, lambda seen: len(seen) >= 4)]
    assert [letter["millwatch-source"].decode() for letter in letters] == [f"{lane.frames}-0-{at}" for at in stale]
    assert {letter["millwatch-reason"] for letter in letters} == {b"stale"}
    events = lane.committed(lane.events, lambda seen: len(seen) >= 4)
    inspected = [int(json.loads(event.value)["id"].rsplit("-", 1)[1]) for event in events]
    assert inspected == [offset for offset in range(8) if offset not in stale]

    without = run(lane, 8, *built, f"kafka.group={lane.name}-all")
    assert (without.taken, without.defective, without.dead.total()) == (8, 8, 0)


def test_frames_of_other_sizes_have_their_masks_at_their_own_size(lane: Lane, built: list[str]) -> None:
    lane.send([png(frame_with({4: [(100, 40, 120, 60)]}, height=128, width=320))])
    run(lane, 1, *built)
    (record,) = lane.committed(lane.events, bool)
    event = json.loads(record.value)
    (defect,) = event["defects"]
    assert (event["width"], event["height"], defect["class"]) == (320, 128, 4)
    found = rle.decode(defect["rle"], 128, 320)
    true = np.zeros((128, 320), np.uint8)
    true[40:100, 100:220] = 1
    assert (found & true).sum() / (found | true).sum() > 0.95


def test_an_event_over_the_limit_goes_without_its_masks(lane: Lane, built: list[str]) -> None:
    crumbs = CLEAN.copy()
    crumbs[::2, ::2] = GREY[3]
    lane.send([png(crumbs)])
    account = run(lane, 1, *built, "events.regions=region", "events.max_bytes=65536", "classes.3.min_area_px=0")
    assert account.defective == 1
    (record,) = lane.committed(lane.events, bool)
    assert len(record.value) <= 65_536
    event = json.loads(record.value)
    assert event["masks_omitted"]
    assert all(defect["rle"] is None for defect in event["defects"])


def test_a_stop_finishes_what_is_in_hand_and_commits_it(
    lane: Lane, built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lives: list[Any] = []
    first_life = service._Life
    monkeypatch.setattr(service, "_Life", lambda: lives.append(first_life()) or lives[-1])
    lane.send([png(DEFECTIVE)] * 200)
    accounts: list[Account] = []
    thread = threading.Thread(target=lambda: accounts.append(run_service(lane.settings(*built))))
    thread.start()
    lane.committed(lane.events, bool, whole=False)
    lives[0].stop()
    thread.join(30)
    (account,) = accounts
    assert account.balances(0)
    assert account.taken == account.defective == lane.offsets()
    assert len(lane.committed(lane.events, lambda seen: len(seen) >= account.taken)) == account.taken


def test_the_engines_that_are_built_at_the_start_are_told_one_by_one(tmp_path: Path) -> None:
    cascade = write_tiny_cascade(tmp_path / "cascade")
    settings = load_settings(None, [f"cascade={cascade}", f"engine.directory={tmp_path / 'engines'}"])
    life = service._Life()
    with capture_logs() as entries, open_inspector(settings, life.builds):
        built = [(entry["number"], entry["of"]) for entry in entries if entry["event"] == "building an engine"]
    assert len(built) > 1
    assert built == [(number, len(built)) for number in range(1, len(built) + 1)]
    assert "the engines are being built" in life.readiness()[1]
    again = service._Life()
    with capture_logs() as entries, open_inspector(settings, again.builds):
        assert entries == []
    assert "the engines are being loaded" in again.readiness()[1]


def test_a_broker_that_is_away_leaves_the_service_waiting_and_a_stop_ends_it(built: list[str], tmp_path: Path) -> None:
    settings = load_settings(None, [*built, f"kafka.bootstrap=127.0.0.1:{free_port()}", "http.port=0"])
    life = service._Life()
    threading.Timer(1.0, life.stop).start()
    assert service._connect(settings, life) is None
    assert "127.0.0.1" in life.readiness()[1]


def test_a_decoder_that_is_missing_ends_the_service_before_it_waits_for_a_broker(
    built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(decoders: int, *, device: int) -> None:
        raise DeviceError("no decoder here")

    monkeypatch.setattr(gpu_jpeg, "open_jpeg_decoder", refuses)
    monkeypatch.setattr(service, "_connect", lambda *_: pytest.fail("the broker is waited for first"))
    with pytest.raises(DeviceError, match="no decoder here"):
        run_service(load_settings(None, [*built, "input.jpeg_decoder=gpu", "http.port=0"]))
