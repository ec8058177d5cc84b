"""The base of every section of the configuration, and the types of values that need more than a number or a word."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo, field_validator


class Section(BaseModel):
    """A group of keys: frozen, without unknown keys, its defaults checked like any other value."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_values_as_numbers(cls, value: object, info: ValidationInfo) -> object:
        # Pydantic reads True as 1; in a file `port: yes` is a mistake, never the port 1.
        if isinstance(value, bool) and info.field_name and cls.model_fields[info.field_name].annotation is not bool:
            raise ValueError("should not be true or false")
        return value


def _from_the_files_folder(path: Path, info: ValidationInfo) -> Path:
    base: Path | None = (info.context or {}).get("folder")
    path = path.expanduser()
    return path if base is None else base / path


ConfiguredPath = Annotated[Path, AfterValidator(_from_the_files_folder)]
"""A path that, where it is relative, starts at the folder of the configuration file."""
