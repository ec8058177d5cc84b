from __future__ import annotations

from typing import Any

from jsonschema import Draft202012Validator

from daemon.schema import asyncapi, event_schema
from daemon.settings import load_settings


def references(node: Any) -> list[str]:
    if isinstance(node, list):
        return [found for item in node for found in references(item)]
    if isinstance(node, dict):
        own = [node["$ref"]] if "$ref" in node else []
        return own + [found for value in node.values() for found in references(value)]
    return []


def test_the_event_schema_is_one_and_says_what_each_key_means() -> None:
    schema = event_schema()
    Draft202012Validator.check_schema(schema)
    for part in (schema, *schema["$defs"].values()):
        assert part["type"] == "object"
        assert all(field.get("description") for field in part["properties"].values())
        assert part.get("additionalProperties", True) is True
    assert set(schema["properties"]) - set(schema["required"]) == {"masks_omitted", "defects_omitted"}


def test_asyncapi_names_the_topics_of_the_settings() -> None:
    settings = load_settings(
        None, ["kafka.topics.frames=a.frames", "kafka.bootstrap=one:1,two:2", "kafka.security.protocol=ssl"]
    )
    document = asyncapi(settings)
    assert document["asyncapi"] == "3.0.0"
    assert [channel["address"] for channel in document["channels"].values()] == [
        "a.frames",
        "defect.events",
        "camera.frames.dead",
    ]
    assert [server["host"] for server in document["servers"].values()] == ["one:1", "two:2"]
    assert {server["protocol"] for server in document["servers"].values()} == {"kafka-secure"}
    assert {operation["action"] for operation in document["operations"].values()} == {"send", "receive"}


def test_every_reference_of_asyncapi_leads_somewhere() -> None:
    document = asyncapi(load_settings())
    found = references(document)
    assert found
    for reference in found:
        node = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


def test_the_events_of_asyncapi_are_those_of_the_schema() -> None:
    payload = asyncapi(load_settings())["components"]["messages"]["defectEvent"]["payload"]
    schema = event_schema()
    assert payload["properties"]["defects"]["items"]["properties"] == schema["$defs"]["EventDefect"]["properties"]
    assert payload["required"] == schema["required"]
