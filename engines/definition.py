"""The cascade's definition, ``cascade.yaml``: which models it has, what their classes mean, and their thresholds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from engines.errors import UsageError

DEFINITION_FILE: Final = "cascade.yaml"

StageKind = Literal["gate", "classifier", "segmenter"]
Probability = Annotated[float, Field(ge=0, le=1)]
# Masks are thresholded inside the engine after a sigmoid, which reaches neither end.
MaskThreshold = Annotated[float, Field(gt=0, lt=1)]
Area = Annotated[int, Field(ge=0)]
FileName = Annotated[str, Field(min_length=1, pattern=r"^[^/\\]+$")]
"""A file beside ``cascade.yaml``: a cascade is one folder that can be copied."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class InputSize(_Part):
    """Size of the frames that the networks see, in pixels."""

    height: Annotated[int, Field(ge=8, le=16_384)]
    width: Annotated[int, Field(ge=8, le=16_384)]


class GateDefinition(_Part):
    """The binary stage: is there anything on this frame?"""

    model: FileName
    threshold: Probability = 0.5


class ClassifierDefinition(_Part):
    """The stage that says which classes a frame carries."""

    model: FileName


class ClassDefinition(_Part):
    """One defect class, its segmenter, and its defaults. ``min_area_px`` counts pixels of the frame as it was sent."""

    id: Annotated[int, Field(ge=1)]
    name: Annotated[str, Field(min_length=1)]
    model: FileName
    threshold: Probability = 0.5
    mask_threshold: MaskThreshold = 0.5
    min_area_px: Area = 0


@dataclass(frozen=True, slots=True)
class Stage:
    """One network of a cascade.

    ``key`` names it among the cascade's stages and in file names (``gate``, ``classifier``, ``segmenter-3``);
    ``class_number`` is the position of its class for a segmenter, else None.
    """

    key: str
    kind: StageKind
    model: Path
    class_number: int | None = None


class CascadeDefinition(_Part):
    """A cascade as its folder describes it. Obtained from :func:`load_definition`.

    ``recording`` names a file of recorded frames on which engines are compared with the reference, ``truth`` one with
    their true masks. ``provenance`` is the author's account of where the models come from.
    """

    schema_: Literal["millwatch.cascade/1"] = Field(alias="schema")
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
    version: Annotated[str, Field(min_length=1)]
    input: InputSize
    gate: GateDefinition
    classifier: ClassifierDefinition
    classes: Annotated[tuple[ClassDefinition, ...], Field(min_length=1, strict=False)]
    recording: FileName | None = None
    truth: FileName | None = None
    provenance: dict[str, Any] = Field(default_factory=dict)
    folder: Path = Field(default=Path(), exclude=True)

    @model_validator(mode="after")
    def _classes_differ(self) -> Self:
        for what, values in (("id", [c.id for c in self.classes]), ("name", [c.name for c in self.classes])):
            repeated = next((value for number, value in enumerate(values) if value in values[:number]), None)
            if repeated is not None:
                raise ValueError(f"two classes have the {what} {repeated!r}")
        return self

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All networks: gate, classifier, then one segmenter per class in the order of the classes."""
        return (
            Stage("gate", "gate", self.folder / self.gate.model),
            Stage("classifier", "classifier", self.folder / self.classifier.model),
            *(
                Stage(f"segmenter-{item.id}", "segmenter", self.folder / item.model, number)
                for number, item in enumerate(self.classes)
            ),
        )

    @property
    def recording_path(self) -> Path | None:
        """Where the recorded frames lie; None where the cascade names none.

        Raises :class:`UsageError` where it names one that is not there.
        """
        if self.recording is None:
            return None
        path = self.folder / self.recording
        if not path.exists():
            raise UsageError(
                f"{path}: no such recording, which 'recording' in {self.folder / DEFINITION_FILE} names: "
                "take it from where the cascade came from, or name another"
            )
        return path

    @property
    def truth_path(self) -> Path | None:
        """Where the true masks of the recorded frames lie; None where the cascade names none."""
        return self.folder / self.truth if self.truth else None

    def hash(self) -> str:
        """The digest that names the models: input size, and for every stage its key, class and the model's bytes."""
        digest = hashlib.sha256(f"{self.input.width}x{self.input.height}".encode())
        for stage in self.stages:
            digest.update(f"\n{stage.key} ".encode())
            digest.update(model_digest(stage.model).encode())
        return digest.hexdigest()[:DIGEST_LENGTH]


DIGEST_LENGTH: Final = 16
"""Hexadecimal digits kept of a SHA-256: 64 bits tell all cascades of a plant apart and still fit a log line."""


def file_digest(path: Path) -> str:
    """The digest of one file. Raises OSError where it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGEST_LENGTH]


def model_digest(path: Path) -> str:
    """The digest of one model file. Raises :class:`UsageError` where it cannot be read."""
    try:
        return file_digest(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot read the model: {error.strerror}") from None


def load_definition(folder: Path) -> CascadeDefinition:
    """The definition in ``folder``, with every model file present.

    Raises :class:`UsageError` with one line that names the file and the key.
    """
    path = folder / DEFINITION_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(
            f"{path.resolve()}: there is no cascade: name its folder with --set cascade=FOLDER, or a configuration "
            "with --config, from whose folder a relative path starts"
        ) from None
    except OSError as error:
        raise UsageError(f"{path}: cannot read the cascade's definition: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not a text in UTF-8") from None
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, Mapping):
        raise UsageError(f"{path}: a mapping with the key 'schema' is expected, not {type(content).__name__}")
    if "folder" in content:
        raise UsageError(f"{path}: folder: unknown key")
    try:
        definition = CascadeDefinition.model_validate({**content, "folder": folder})
    except ValidationError as error:
        raise UsageError(f"{path}: {_first_problem(error)}") from None
    for stage in definition.stages:
        if not stage.model.is_file():
            raise UsageError(f"{path}: {stage.key}: there is no model {stage.model.name} in {folder}")
    return definition


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        message = "unknown key"
    elif problem["type"] == "missing":
        message = "missing"
    elif problem["type"] == "value_error":
        message = str(problem["ctx"]["error"])
    else:
        message = f"{problem['msg'][0].lower()}{problem['msg'][1:]}, not {problem['input']!r}"
    return f"{key}: {message}" if key else message
