"""The defect event: what is published of an inspected frame, as JSON in a CloudEvent of Kafka's binary mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from daemon.frames import FrameMeta, format_time
from engines.results import Defect, EngineIdentity, Inspection

SCHEMA: Final = "millwatch.defect-event/1"
DATA_SCHEMA = "urn:millwatch:defect-event:1"

MAX_TEXT = 1000
"""Characters kept of a name that comes with a frame. Keys and headers may be megabytes; an event has to fit."""

LAST_TIME_MS = 253_402_300_799_999
"""The end of the year 9999. A record's timestamp may be any 64-bit number; RFC 3339 has four digits for the year."""

Score = Annotated[float, Field(ge=0, le=1)]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


class _Part(BaseModel):
    # Later versions of an event may have more keys: whoever reads with this model passes over them.
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class EventScores(_Part):
    """What the gate and the classifier said."""

    gate: Score = Field(description="score of the gate: how likely the frame has any defect")
    classes: tuple[Score, ...] | None = Field(
        description="score of each class, the first one's first; null where the gate ended the inspection"
    )


class EventDefect(_Part):
    """One defect: all pixels of a class, or one 8-connected region of them."""

    class_id: int = Field(alias="class", ge=1, description="number of the class, from 1")
    name: str = Field(description="name of the class")
    score: Score = Field(description="the classifier's score of the class")
    area_px: int = Field(ge=1, description="pixels of the defect; the sum of the run lengths")
    box: tuple[int, int, int, int] = Field(description="tight box in pixels: x, y (from 0), width, height")
    rle: str | None = Field(
        description="run lengths: pixels numbered from 1, down each column first, then to the right; pairs of start "
        "and length, ascending, never touching; null where masks are omitted",
        json_schema_extra={"anyOf": [{"type": "string", "pattern": r"^\d+ \d+( \d+ \d+)*$"}, {"type": "null"}]},
    )


class EventEngine(_Part):
    """What gave the verdict."""

    cascade: str = Field(description="name of the cascade")
    hash: str = Field(description="names the models")
    settings: str = Field(description="names everything else that can change a verdict: thresholds, areas, names")
    backend: str = Field(description="the engine backend")


class DefectEvent(_Part):
    """The verdict on one frame of the camera topic."""

    schema_: Literal["millwatch.defect-event/1"] = Field(alias="schema", description="name and version of this schema")
    id: str = Field(description="topic-partition-offset of the frame; a repeated inspection repeats it")
    verdict: Literal["clean", "defective"] = Field(description="defective where there is at least one defect")
    camera: str = Field(description="the camera's id")
    frame: str | None = Field(description="the camera's own id of the frame; null where it gave none")
    coil: str | None = Field(description="the coil's id")
    position_mm: float | None = Field(description="position along the strip, in millimetres")
    captured_at: Time = Field(description="when the frame was taken, UTC; when the broker got it where that is unknown")
    inspected_at: Time = Field(description="when the inspection ended, UTC")
    width: int = Field(ge=1, description="width of the frame as it was sent, in pixels")
    height: int = Field(ge=1, description="height of the frame as it was sent, in pixels")
    scores: EventScores = Field(description="scores, from 0 to 1")
    defects: tuple[EventDefect, ...] = Field(description="the defects, none where the frame is clean")
    engine: EventEngine = Field(description="what gave the verdict")
    masks_omitted: bool = Field(False, description="there and true where the masks would have made the event too large")
    defects_omitted: int = Field(
        0,
        ge=0,
        description="there where even without masks not all defects fitted: how many, the smallest, are missing",
    )

    def to_json(self) -> bytes:
        """The event's value, UTF-8."""
        absent = {name for name in ("masks_omitted", "defects_omitted") if not getattr(self, name)}
        return self.model_dump_json(by_alias=True, exclude=absent).encode()


def event_of(meta: FrameMeta, inspection: Inspection, identity: EngineIdentity, inspected_at_ms: int) -> DefectEvent:
    """The event of a frame; ``inspected_at_ms`` in milliseconds since 1970, UTC."""
    scores = inspection.class_scores
    return DefectEvent(
        schema_=SCHEMA,
        id=meta.id,
        verdict=inspection.verdict,
        camera=_short(meta.camera),
        frame=None if meta.frame_id is None else _short(meta.frame_id),
        coil=None if meta.coil is None else _short(meta.coil),
        position_mm=meta.position_mm,
        captured_at=_time(meta.captured_at_ms),
        inspected_at=_time(inspected_at_ms),
        width=inspection.width,
        height=inspection.height,
        scores=EventScores(
            gate=_score(inspection.gate_score), classes=None if scores is None else tuple(map(_score, scores))
        ),
        defects=tuple(map(_entry, inspection.defects)),
        engine=EventEngine(
            cascade=identity.cascade, hash=identity.hash, settings=identity.settings, backend=identity.backend
        ),
    )


def encode_event(
    meta: FrameMeta, inspection: Inspection, identity: EngineIdentity, inspected_at_ms: int, max_bytes: int
) -> bytes:
    """The value of a frame's event, at most ``max_bytes`` long.

    An event that would be longer goes without its masks and, if that is not enough, without its smallest defects: a
    defective frame always has its event.
    """
    event = event_of(meta, inspection, identity, inspected_at_ms)
    value = event.to_json()
    if len(value) <= max_bytes:
        return value
    bare = tuple(defect.model_copy(update={"rle": None}) for defect in event.defects)
    event = event.model_copy(update={"defects": bare, "masks_omitted": True})
    value = event.to_json()
    kept: Sequence[EventDefect] = bare
    while len(value) > max_bytes and kept:
        # Largest first, and half of them each time: this is a frame of noise with thousands of regions.
        kept = sorted(kept, key=lambda defect: -defect.area_px)[: len(kept) // 2]
        omitted = len(bare) - len(kept)
        value = event.model_copy(update={"defects": tuple(kept), "defects_omitted": omitted}).to_json()
    return value


def event_headers(meta: FrameMeta, source: str) -> list[tuple[str, bytes]]:
    """The event's Kafka headers: CloudEvents 1.0, Kafka protocol binding, binary content mode."""
    attributes = {
        "ce_specversion": "1.0",
        "ce_type": SCHEMA,
        "ce_source": source,
        "ce_id": meta.id,
        "ce_time": _time(meta.captured_at_ms),
        "ce_subject": _short(meta.camera),
        "ce_dataschema": DATA_SCHEMA,
        "content-type": "application/json",
    }
    return [(name, value.encode()) for name, value in attributes.items()]


def event_source(cluster_id: str, topic: str) -> str:
    """CloudEvents' ``source`` of events on frames of this topic; with the id it is unique among all clusters."""
    return f"kafka://{cluster_id}/{topic}"


def _entry(defect: Defect) -> EventDefect:
    box = defect.box
    return EventDefect(
        class_id=defect.class_id,
        name=defect.name,
        score=_score(defect.score),
        area_px=defect.area_px,
        box=(box.x, box.y, box.width, box.height),
        rle=defect.rle,
    )


def _score(value: float) -> float:
    # Six digits are more than a float16 engine knows, and half as long as a float32 written out as a double.
    return round(float(value), 6)


def _short(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def _time(milliseconds: int) -> str:
    return format_time(min(max(milliseconds, 0), LAST_TIME_MS))
