"""The manifest beside built engines: what they were built from and for, and how well they agree with the reference."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engines.agreement import (
    COMPARED_FRAMES,
    DICE_PIXELS,
    MAX_FLIPPED_SHARE,
    MAX_SCORE_DIFFERENCE,
    MIN_DICE,
    Agreement,
)
from engines.backend import Compiler, DeviceInfo, EngineFile, Precision
from engines.definition import DIGEST_LENGTH, CascadeDefinition, file_digest

MANIFEST_FILE: Final = "manifest.json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BuiltEngine(_Part):
    """One engine file, its batch sizes, and the measured agreement at each of them, in the same order."""

    batch_sizes: tuple[int, ...]
    file: str
    digest: str
    agreements: tuple[Agreement, ...]


class RefusedPrecision(_Part):
    """A precision in which a stage was not accepted, and why, as part of a sentence.

    ``batch_size`` is the one at which it disagreed; None where it could not be compiled at all.
    """

    precision: Precision
    batch_size: int | None
    reason: str


class BuiltStage(_Part):
    """One stage: its model's digest, the precision that was accepted, and its engines.

    ``refused`` are the faster precisions that were tried before.
    """

    stage: str
    model: str
    precision: Precision
    refused: tuple[RefusedPrecision, ...]
    engines: tuple[BuiltEngine, ...]


class Manifest(_Part):
    """Everything that decides whether engines fit, written as the last file of a build.

    ``hash`` names the models and ``build_settings`` how they were built; ``compared_frames`` of the cascade's recording
    were compared with the reference, ``defective_frames`` of them defective.
    """

    schema_: Literal["millwatch.engines/2"] = Field(alias="schema")
    cascade: str
    version: str
    hash: str
    build_settings: str
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
            EngineFile(stage.stage, engine.batch_sizes, stage.precision, folder / engine.file)
            for stage in self.stages
            for engine in stage.engines
        )

    @property
    def precisions(self) -> dict[str, Precision]:
        """The precision of every stage."""
        return {stage.stage: stage.precision for stage in self.stages}

    @property
    def batch_sizes(self) -> set[int]:
        """The batch sizes for which there are engines, the same for every stage."""
        return {size for stage in self.stages for engine in stage.engines for size in engine.batch_sizes}


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


def build_settings_digest(compiler: Compiler, bit_depth: int) -> str:
    """Names how engines are built: what could be chosen differently for the same models on the same device.

    Batch sizes are not among it: they change how fast an engine is and never what it may say.
    """
    limits = (MAX_SCORE_DIFFERENCE, MAX_FLIPPED_SHARE, MIN_DICE, DICE_PIXELS, COMPARED_FRAMES)
    choices = {"precisions": compiler.precisions, "options": dict(compiler.options)}
    text = json.dumps({**choices, "limits": limits, "bit_depth": bit_depth}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]


def check_fit(
    directory: Path,
    definition: CascadeDefinition,
    compiler: Compiler,
    *,
    bit_depth: int,
    batch_sizes: Collection[int] = (),
) -> Fit:
    """Whether the cascade's engines below ``directory`` are those that ``compiler`` would build here and now.

    That is: from these models, for this device, with the same precisions, options, limits and ``bit_depth``. Every one
    of ``batch_sizes`` must be among theirs; where none are given, engines of any sizes do.
    """
    device = compiler.device
    folder = engines_folder(directory, definition, device.backend)
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
    elif not compiler.runs(built):
        problem = (
            f"they were built for {built.name} ({built.capabilities}), here is {device.name} ({device.capabilities})"
        )
    elif manifest.build_settings != build_settings_digest(compiler, bit_depth):
        problem = "they were built with other precisions, options or limits, or compared at another bit depth"
    elif not manifest.batch_sizes.issuperset(batch_sizes):
        problem = f"they were built for batches of {_listed(manifest.batch_sizes)}, wanted are {_listed(batch_sizes)}"
    else:
        changed = _changed_file(folder, manifest)
        if changed is None:
            return Fit(manifest, "")
        problem = f"the file {changed} is missing or changed since it was built"
    return Fit.no(f"the engines in {folder} do not fit: {problem}")


def _listed(batch_sizes: Collection[int]) -> str:
    return ", ".join(map(str, sorted(batch_sizes)))


def _changed_file(folder: Path, manifest: Manifest) -> str | None:
    for stage in manifest.stages:
        for engine in stage.engines:
            try:
                if file_digest(folder / engine.file) != engine.digest:
                    return engine.file
            except OSError:
                return engine.file
    return None
