"""The manifest beside built engines: what they were built from and for, and how well they agree with the reference."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engines.agreement import Agreement
from engines.backend import DeviceInfo, EngineFile, Precision
from engines.definition import DIGEST_LENGTH, CascadeDefinition

MANIFEST_FILE: Final = "manifest.json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BuiltEngine(_Part):
    """One engine file and its measured agreement."""

    batch_size: int
    file: str
    digest: str
    agreement: Agreement


class BuiltStage(_Part):
    """One stage: its model's digest, the precision that was accepted, and an engine per batch size."""

    stage: str
    model: str
    precision: Precision
    engines: tuple[BuiltEngine, ...]


class Manifest(_Part):
    """Everything that decides whether engines fit, written as the last file of a build.

    ``hash`` names the models and ``settings`` how they were built; ``compared_frames`` of the cascade's recording were
    compared with the reference, ``defective_frames`` of them defective.
    """

    schema_: Literal["millwatch.engines/1"] = Field(default="millwatch.engines/1", alias="schema")
    cascade: str
    version: str
    hash: str
    settings: str
    device: DeviceInfo
    built_at: str
    compared_frames: int
    defective_frames: int
    stages: tuple[BuiltStage, ...]

    def write(self, folder: Path) -> None:
        """Replace the folder's manifest in one step: until then the engines before it stay in force."""
        partial = folder / f"{MANIFEST_FILE}.partial"
        partial.write_text(self.model_dump_json(by_alias=True, indent=1) + "\n", encoding="utf-8")
        partial.replace(folder / MANIFEST_FILE)

    def engine_files(self, folder: Path) -> tuple[EngineFile, ...]:
        """All engines of the manifest in ``folder``."""
        return tuple(
            EngineFile(stage.stage, engine.batch_size, folder / engine.file)
            for stage in self.stages
            for engine in stage.engines
        )

    @property
    def precisions(self) -> dict[str, Precision]:
        """The precision of every stage."""
        return {stage.stage: stage.precision for stage in self.stages}


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether the engines in a folder can be used: the manifest, or why not."""

    manifest: Manifest | None
    problem: str

    @classmethod
    def no(cls, problem: str) -> Self:
        """Engines that do not fit, with the reason as part of a sentence."""
        return cls(None, problem)


def engines_folder(directory: Path, definition: CascadeDefinition, backend: str) -> Path:
    """Where a cascade's engines of one backend lie below ``directory``."""
    return directory / definition.name / backend


def check_fit(folder: Path, definition: CascadeDefinition, device: DeviceInfo, settings: str | None = None) -> Fit:
    """Compare the engines in ``folder`` with the models, this device and, where given, the wanted build settings."""
    try:
        text = (folder / MANIFEST_FILE).read_bytes()
    except OSError:
        return Fit.no(f"there are no engines of cascade {definition.name} in {folder}")
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError:
        return Fit.no(f"{folder / MANIFEST_FILE} is not a manifest of this version")
    built = manifest.device
    if manifest.hash != definition.hash():
        problem = "they were built from other models"
    elif built.version != device.version:
        problem = f"they were built by {built.backend} {built.version}, here is {device.version}"
    elif built != device:
        problem = (
            f"they were built for {built.name} ({built.capabilities}), here is {device.name} ({device.capabilities})"
        )
    elif settings is not None and manifest.settings != settings:
        problem = "they were built with other settings"
    else:
        changed = _changed_file(folder, manifest)
        if changed is None:
            return Fit(manifest, "")
        problem = f"the file {changed} is missing or changed since it was built"
    return Fit.no(f"the engines in {folder} do not fit: {problem}")


def file_digest(path: Path) -> str:
    """The digest of an engine file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGEST_LENGTH]


def _changed_file(folder: Path, manifest: Manifest) -> str | None:
    for stage in manifest.stages:
        for engine in stage.engines:
            try:
                if file_digest(folder / engine.file) != engine.digest:
                    return engine.file
            except OSError:
                return engine.file
    return None
