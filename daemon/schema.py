"""The schemas that other programs can rely on: JSON Schema of the events, AsyncAPI of the three topics."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from daemon.deadletters import CAPTURED_AT, DETAIL, REASON, REDRIVEN, SOURCE, VALUE_OMITTED
from daemon.events import DATA_SCHEMA, SCHEMA, DefectEvent
from daemon.metrics import REASONS
from daemon.settings import Settings

JSON_SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"

Document = dict[str, Any]


class _Untitled(GenerateJsonSchema):
    """Without a title for each key, which would only be the key again."""

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002 - the base class's form
        return False


def event_schema() -> Document:
    """JSON Schema, 2020-12, of a defect event's value. Further properties are allowed: later versions may add some."""
    document = DefectEvent.model_json_schema(schema_generator=_Untitled, mode="serialization", by_alias=True)
    return {
        "$schema": JSON_SCHEMA_DIALECT,
        "$id": DATA_SCHEMA,
        **document,
        "title": SCHEMA,
    }


def asyncapi(settings: Settings) -> Document:
    """AsyncAPI 3.0 of the topics as these settings name them."""
    kafka = settings.kafka
    channels = {
        "frames": _channel(kafka.topics.frames, "Frames of the cameras.", "frame"),
        "events": _channel(
            kafka.topics.events,
            "Defect events. Read with isolation.level=read_committed, which is no client's default.",
            "defectEvent",
        ),
        "deadLetters": _channel(kafka.topics.dead, "Frames that could not be inspected.", "deadLetter"),
    }
    protocol = "kafka-secure" if kafka.security.tls else "kafka"
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Millwatch",
            "version": "1",
            "description": "Inspection of flat steel: camera frames in, defect events out.",
        },
        "defaultContentType": "application/json",
        "servers": {
            f"broker{number}": {"host": address, "protocol": protocol}
            for number, address in enumerate(kafka.bootstrap.split(","), 1)
        },
        "channels": channels,
        "operations": {
            "takeFrames": _operation("receive", "frames", "Read every frame once, in the group's order of offsets."),
            "publishEvents": _operation("send", "events", "One event for each defective frame, or for every frame."),
            "rejectFrames": _operation("send", "deadLetters", "The record of a frame that could not be inspected."),
        },
        "components": {"messages": {"frame": _frame(), "defectEvent": _event(), "deadLetter": _dead_letter()}},
    }


def _inlined(node: Any, definitions: Document) -> Any:
    """The schema with every reference replaced by what it names: inside another document it would lead nowhere."""
    if isinstance(node, list):
        return [_inlined(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    reference = node.get("$ref")
    target = definitions[reference.removeprefix("#/$defs/")] if reference else {}
    return {
        key: _inlined(value, definitions) for key, value in {**target, **node}.items() if key not in ("$ref", "$defs")
    }


def _channel(address: str, description: str, message: str) -> Document:
    return {
        "address": address,
        "description": description,
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        "bindings": {"kafka": {"topic": address}},
    }


def _operation(action: str, channel: str, summary: str) -> Document:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary}


def _text(description: str, **more: object) -> Document:
    return {"type": "string", "description": description, **more}


def _headers(properties: dict[str, Document], required: list[str]) -> Document:
    return {"type": "object", "properties": properties, "required": required}


_CAMERA_KEY = {"kafka": {"key": {"type": "string", "description": "the camera's id, UTF-8"}}}

_FRAME_HEADERS = {
    "frame-id": _text("the camera's own id of the frame"),
    "captured-at": _text("when the frame was taken, RFC 3339; the record's timestamp where it is missing"),
    "coil-id": _text("the coil's id"),
    "position-mm": _text("position along the strip, in millimetres, as a decimal number"),
    "content-type": _text("type of the value; application/x-gray8 is raw 8-bit grey and needs width and height"),
    "width": _text("width of raw grey, in pixels, as a decimal number"),
    "height": _text("height of raw grey, in pixels, as a decimal number"),
    "crc32c": _text("CRC-32C of the value", pattern="^[0-9a-fA-F]{8}$"),
    REDRIVEN: _text("topic-partition-offset of the dead letter from which the frame was put back"),
}


def _frame() -> Document:
    return {
        "name": "frame",
        "title": "Frame",
        "summary": "One encoded image (JPEG, PNG, BMP, TIFF), or raw 8-bit grey, row after row.",
        "contentType": "application/octet-stream",
        "headers": _headers(_FRAME_HEADERS, []),
        "payload": {"type": "string", "format": "binary"},
        "bindings": _CAMERA_KEY,
    }


def _event() -> Document:
    attributes = {
        "ce_specversion": _text("version of CloudEvents", const="1.0"),
        "ce_type": _text("type of the event", const=SCHEMA),
        "ce_source": _text("kafka://CLUSTER/TOPIC of the frame"),
        "ce_id": _text("the event's id"),
        "ce_time": _text("when the frame was taken", format="date-time"),
        "ce_subject": _text("the camera's id"),
        "ce_dataschema": _text("names the schema of the value", const=DATA_SCHEMA),
        "content-type": _text("type of the value", const="application/json"),
    }
    schema = event_schema()
    return {
        "name": "defectEvent",
        "title": "Defect event",
        "summary": "The verdict on one frame, a CloudEvent in Kafka's binary content mode.",
        "contentType": "application/json",
        "headers": _headers(attributes, list(attributes)),
        "payload": _inlined(schema, schema["$defs"]),
        "bindings": _CAMERA_KEY,
    }


def _dead_letter() -> Document:
    added = {
        REASON: _text("why; more reasons may come", examples=sorted(REASONS)),
        DETAIL: _text("a sentence for a person"),
        SOURCE: _text("topic-partition-offset of the frame"),
        CAPTURED_AT: _text("the frame's timestamp, RFC 3339, where it has no captured-at"),
        VALUE_OMITTED: _text("size of the value, in bytes, where it is left out because the record would be too large"),
    }
    return {
        "name": "deadLetter",
        "title": "Rejected frame",
        "summary": "The frame's own key, value and headers, with the reason added.",
        "contentType": "application/octet-stream",
        "headers": _headers({**_FRAME_HEADERS, **added}, [REASON, DETAIL, SOURCE]),
        "payload": {"type": "string", "format": "binary"},
        "bindings": _CAMERA_KEY,
    }
