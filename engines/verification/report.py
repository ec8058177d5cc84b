"""What is to be verified, and what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import GenerateJsonSchema

from engines.backends import BackendChoice, HardwareCompatibility
from engines.errors import DeviceError, EngineError, MillwatchError

SCHEMA: Final = "millwatch.verify-gpu/1"

PartName = Literal["device", "build", "parity", "latency", "cascade", "slots", "leaks", "graphs", "decoder"]

Outcome = Literal["passed", "failed", "skipped"]

Row = dict[str, str | int | float | bool | None]
"""One line of a part's figures: numbers with their unit in the key, what was not measured is None."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Plan(_Part):
    """What to verify: the cascade in ``cascade`` with its engines below ``directory``, which are built where they do
    not fit, and how it is to be opened, as for :func:`engines.cascade.open_cascade`.

    ``seconds`` is how long each speed is measured, ``opens`` how often engines are opened in search of a leak.
    """

    cascade: Path
    directory: Path
    backend: BackendChoice = "tensorrt"
    device: str = "auto"
    hardware_compatibility: HardwareCompatibility = "none"
    max_frames: int = 8
    slots: int = 0
    bit_depth: int = 16
    seconds: float = 1.0
    opens: int = 20


class PartReport(_Part):
    """One part. ``detail`` is a line for the reader: what was found, what is wrong, or why it was skipped."""

    part: PartName
    outcome: Outcome
    detail: str
    seconds: float = Field(description="how long the part took")
    figures: tuple[Row, ...] = Field(default=(), description="rows of the part's table, their units in the keys")


class Report(_Part):
    """All parts, in the order in which they ran."""

    schema_: Literal["millwatch.verify-gpu/1"] = Field(default=SCHEMA, alias="schema")
    millwatch: str = Field(description="version")
    started_at: str = Field(description="UTC, RFC 3339")
    cascade: str = Field(description="name of the cascade")
    hash: str = Field(description="names its models")
    rehearsal: bool = Field(description="whether the processor stood in for a GPU: then no figure says anything of one")
    parts: tuple[PartReport, ...]

    def exit_code(self) -> int:
        """0 where nothing failed, 5 without a device, 4 where engines were not built or disagree, else 1."""
        outcomes = {part.part: part.outcome for part in self.parts}
        if outcomes.get("device") == "skipped":
            return DeviceError.exit_code
        if "failed" in (outcomes.get("build"), outcomes.get("parity")):
            return EngineError.exit_code
        return MillwatchError.exit_code if "failed" in outcomes.values() else 0


class _Untitled(GenerateJsonSchema):
    """Without a title for each key, which would only be the key again."""

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002 - the base class's form
        return False


def report_schema() -> dict[str, Any]:
    """JSON Schema, 2020-12, of a report."""
    document = Report.model_json_schema(schema_generator=_Untitled, mode="serialization", by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **document, "title": SCHEMA}


@dataclass(frozen=True, slots=True)
class Finding:
    """What a part returns: its line, its figures, and what is wrong, where something is."""

    detail: str
    figures: Sequence[Mapping[str, str | int | float | bool | None]] = ()
    problems: Sequence[str] = ()


class SkippedError(MillwatchError):
    """A part that cannot be run here, with the reason. Nothing is wrong with what it would have looked at."""

    exit_code: ClassVar[int] = 0
