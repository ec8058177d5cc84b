from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from daemon.events import LAST_TIME_MS, MAX_TEXT, DefectEvent, encode_event, event_headers, event_of, event_source
from daemon.frames import FrameMeta
from daemon.schema import event_schema
from engines.results import Box, Defect, EngineIdentity, Inspection

IDENTITY = EngineIdentity(cascade="reference", hash="abc", settings="def", backend="openvino")
VALIDATOR = Draft202012Validator(event_schema())
LIMIT = 65_536


def meta(**changes: Any) -> FrameMeta:
    values: dict[str, Any] = {
        "topic": "camera.frames",
        "partition": 0,
        "offset": 1234,
        "timestamp_ms": 1_795_341_600_000,
        "captured_at_ms": 1_795_341_600_000,
        "key": b"cam-1",
        "camera": "cam-1",
        "frame_id": "f-000123",
        "coil": "C42",
        "position_mm": 1234.5,
        "headers": (),
    }
    return FrameMeta(**{**values, **changes})


def defect(area: int = 5253, rle: str = "152926 1 153180 4") -> Defect:
    return Defect(class_id=3, name="scratch", score=0.97, area_px=area, box=Box(597, 93, 40, 80), rle=rle)


def inspection(*defects: Defect) -> Inspection:
    return Inspection(width=1600, height=256, gate_score=0.98, class_scores=(0.01, 0.0, 0.97, 0.2), defects=defects)


def test_an_event_as_it_is_documented() -> None:
    value = json.loads(encode_event(meta(), inspection(defect()), IDENTITY, 1_795_341_600_041, LIMIT))
    assert value == {
        "schema": "millwatch.defect-event/1",
        "id": "camera.frames-0-1234",
        "verdict": "defective",
        "camera": "cam-1",
        "frame": "f-000123",
        "coil": "C42",
        "position_mm": 1234.5,
        "captured_at": "2026-11-22T10:00:00.000Z",
        "inspected_at": "2026-11-22T10:00:00.041Z",
        "width": 1600,
        "height": 256,
        "scores": {"gate": 0.98, "classes": [0.01, 0.0, 0.97, 0.2]},
        "defects": [
            {
                "class": 3,
                "name": "scratch",
                "score": 0.97,
                "area_px": 5253,
                "box": [597, 93, 40, 80],
                "rle": "152926 1 153180 4",
            }
        ],
        "engine": {"cascade": "reference", "hash": "abc", "settings": "def", "backend": "openvino"},
    }
    VALIDATOR.validate(value)


def test_what_is_not_known_is_null() -> None:
    unknown = meta(frame_id=None, coil=None, position_mm=None)
    clean = Inspection(width=1600, height=256, gate_score=0.01, class_scores=None, defects=())
    value = json.loads(encode_event(unknown, clean, IDENTITY, 0, LIMIT))
    assert (value["frame"], value["coil"], value["position_mm"]) == (None, None, None)
    assert value["verdict"] == "clean"
    assert value["scores"]["classes"] is None
    assert value["defects"] == []
    VALIDATOR.validate(value)


def test_the_headers_are_a_cloud_event() -> None:
    headers = dict(event_headers(meta(), event_source("cluster-1", "camera.frames")))
    assert headers == {
        "ce_specversion": b"1.0",
        "ce_type": b"millwatch.defect-event/1",
        "ce_source": b"kafka://cluster-1/camera.frames",
        "ce_id": b"camera.frames-0-1234",
        "ce_time": b"2026-11-22T10:00:00.000Z",
        "ce_subject": b"cam-1",
        "ce_dataschema": b"urn:millwatch:defect-event:1",
        "content-type": b"application/json",
    }


def test_masks_that_are_too_large_are_left_out() -> None:
    value = encode_event(meta(), inspection(defect(rle="1 1 " * LIMIT), defect(9)), IDENTITY, 0, LIMIT)
    event = json.loads(value)
    assert event["masks_omitted"] is True
    assert [found["rle"] for found in event["defects"]] == [None, None]
    assert [found["area_px"] for found in event["defects"]] == [5253, 9]
    assert "defects_omitted" not in event
    VALIDATOR.validate(event)


def test_of_too_many_defects_the_largest_stay() -> None:
    defects = tuple(defect(area) for area in range(1, 5001))
    value = encode_event(meta(), inspection(*defects), IDENTITY, 0, LIMIT)
    event = json.loads(value)
    assert len(value) <= LIMIT
    assert event["defects_omitted"] == 5000 - len(event["defects"])
    assert [found["area_px"] for found in event["defects"]] == sorted(range(1, 5001), reverse=True)[
        : len(event["defects"])
    ]
    VALIDATOR.validate(event)


def test_names_of_any_length_fit() -> None:
    # A control character is six bytes in JSON, the most that a character takes.
    long = "\x00" * 1_000_000
    value = encode_event(meta(camera=long, frame_id=long, coil=long), inspection(defect()), IDENTITY, 0, LIMIT)
    assert len(value) <= LIMIT
    assert json.loads(value)["camera"] == "\x00" * (MAX_TEXT - 1) + "…"


@pytest.mark.parametrize(("milliseconds", "written"), [(-1, "1970-01-01T"), (2**62, "9999-12-31T23:59:59.999Z")])
def test_any_timestamp_of_a_record_can_be_written(milliseconds: int, written: str) -> None:
    event = event_of(meta(captured_at_ms=milliseconds), inspection(), IDENTITY, milliseconds)
    assert event.captured_at.startswith(written)
    assert event.inspected_at.startswith(written)


def test_readers_pass_over_what_they_do_not_know() -> None:
    value = json.loads(encode_event(meta(), inspection(defect()), IDENTITY, 0, LIMIT))
    value["new"] = value["scores"]["new"] = value["defects"][0]["new"] = 1
    VALIDATOR.validate(value)
    assert DefectEvent.model_validate(value).defects[0].class_id == 3


def test_the_schema_refuses_what_is_no_event() -> None:
    good = json.loads(encode_event(meta(), inspection(defect()), IDENTITY, 0, LIMIT))
    for change in (
        {"schema": "millwatch.defect-event/2"},
        {"verdict": "maybe"},
        {"scores": {"gate": 1.5, "classes": None}},
        {"defects": [{**good["defects"][0], "rle": "1 2 3"}]},
        {"defects": [{**good["defects"][0], "box": [1, 2, 3]}]},
    ):
        assert not VALIDATOR.is_valid({**good, **change}), change
    for key in good:
        assert not VALIDATOR.is_valid({name: value for name, value in good.items() if name != key}), key


NAMES = st.text(max_size=30)
SCORES = st.floats(0, 1)
TIMES = st.integers(0, LAST_TIME_MS)
RUNS = st.lists(st.tuples(st.integers(1, 10**6), st.integers(1, 10**4)), min_size=1, max_size=5)
DEFECTS = st.builds(
    Defect,
    class_id=st.integers(1, 9),
    name=NAMES,
    score=SCORES,
    area_px=st.integers(1, 10**7),
    box=st.builds(Box, st.integers(0, 9), st.integers(0, 9), st.integers(1, 9), st.integers(1, 9)),
    rle=RUNS.map(lambda runs: " ".join(f"{start} {length}" for start, length in runs)),
)
METAS = st.builds(
    meta,
    camera=NAMES,
    frame_id=st.none() | NAMES,
    coil=st.none() | NAMES,
    position_mm=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    captured_at_ms=TIMES,
)
INSPECTIONS = st.builds(
    Inspection,
    width=st.integers(1, 20_000),
    height=st.integers(1, 20_000),
    gate_score=SCORES,
    class_scores=st.none() | st.lists(SCORES, max_size=4).map(tuple),
    defects=st.lists(DEFECTS, max_size=4).map(tuple),
)


@given(METAS, INSPECTIONS, TIMES)
def test_every_event_reads_back_and_meets_its_schema(frame: FrameMeta, found: Inspection, inspected_at_ms: int) -> None:
    value = encode_event(frame, found, IDENTITY, inspected_at_ms, LIMIT)
    VALIDATOR.validate(json.loads(value))
    event = DefectEvent.model_validate_json(value)
    assert event == event_of(frame, found, IDENTITY, inspected_at_ms)
    assert event.to_json() == value
    assert event.camera == frame.camera
    assert event.position_mm == frame.position_mm
    assert [item.rle for item in event.defects] == [item.rle for item in found.defects]
    assert event.scores.gate == pytest.approx(found.gate_score, abs=1e-6)
    assert round(datetime.fromisoformat(event.captured_at).timestamp() * 1000) == frame.captured_at_ms
