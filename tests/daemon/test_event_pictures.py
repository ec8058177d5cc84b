"""Frames fetched again for their events, on a broker."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from structlog.testing import capture_logs

from daemon.event_pictures import EventPictures, FrameFinder, picture_of
from daemon.kafka import clients
from engines.errors import UsageError
from tests.support.defect_events import defect, event
from tests.support.tiny_cascade import frame_with, mask_of
from tests.support.topics import Lane

FRAME = frame_with({3: [(10, 20, 40, 12)]})
MASK = mask_of(FRAME, 3)


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def event_of(frame_id: str, **size: int):
    return event([defect(3, MASK)], **{"height": 64, "width": 160, **size}, id=frame_id)


def test_the_picture_of_an_event_has_its_defects():
    picture = picture_of(event_of("x"), FRAME)
    assert picture.shape[2] == 3
    assert (picture.std(axis=2) > 0).any()


def test_a_frame_of_another_size_is_refused():
    with pytest.raises(UsageError, match="the frame has 160x64 pixels, its event says 12x8"):
        picture_of(event(id="x"), FRAME)


@pytest.mark.kafka
def test_frames_are_found_by_id_in_any_order(lane: Lane):
    lane.send([f"value {number}".encode() for number in range(20)])
    consumer = clients.reader(lane.settings())
    finder = FrameFinder(consumer)
    for partition, offset in ((3, 4), (0, 0), (1, 2), (1, 1)):
        frame = finder.find(f"{lane.frames}-{partition}-{offset}")
        assert frame is not None
        assert frame.value == f"value {4 * offset + partition}".encode()
    consumer.close()


@pytest.mark.kafka
def test_frames_that_are_not_there_are_none(lane: Lane):
    lane.send([b"only one"])
    consumer = clients.reader(lane.settings())
    finder = FrameFinder(consumer)
    for frame_id in ("0-1", "0-99", "9-0", "x-0", "0--1", ""):
        assert finder.find(f"{lane.frames}-{frame_id}") is None
    for frame_id in ("", "-", "no.such-0-0", "-0-0"):
        assert finder.find(frame_id) is None
    consumer.close()


@pytest.mark.kafka
def test_pictures_are_saved_and_what_has_none_is_told(lane: Lane, tmp_path: Path):
    lane.send([png(FRAME), b"not an image", png(frame_with(height=32))], partitions=1)
    ids = [f"{lane.frames}-0-{offset}" for offset in range(4)]
    with EventPictures.open(lane.settings(), tmp_path / "pictures") as pictures, capture_logs() as logs:
        saved = [pictures.save(event_of(frame_id)) for frame_id in ids]
    assert saved == [tmp_path / "pictures" / f"{ids[0]}.jpg", None, None, None]
    assert cv2.imread(str(saved[0])) is not None
    told = [(entry["frame"], entry["event"].partition(": ")[2]) for entry in logs if "frame" in entry]
    assert told == [
        (ids[1], "the frame cannot be decoded"),
        (ids[2], "the event does not fit its frame"),
        (ids[3], "the broker does not keep this frame any more"),
    ]
