"""The lock files: complete for what the project declares, hashed, and without the address of any index."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = {
    "daemon": (),
    "demo": ("demo",),
    "test": ("demo", "test"),
    "gpu-test": ("demo", "test"),
    "train": ("demo", "test", "train"),
}
PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)")


def entries(lock: str) -> list[str]:
    """The lock's pins, each with its continuation lines of hashes."""
    text = (ROOT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8")
    joined = text.replace("\\\n", " ")
    return [line for line in joined.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("lock", EXTRAS)
def test_a_lock_meets_what_the_project_asks_for(lock: str) -> None:
    pinned: dict[str, set[str]] = {}
    for entry in entries(lock):
        found = PIN.match(entry)
        assert found, entry
        pinned.setdefault(canonicalize_name(found[1]), set()).add(found[2])
    extras = (text for extra in EXTRAS[lock] for text in PROJECT["optional-dependencies"][extra])
    for requirement in map(Requirement, (*PROJECT["dependencies"], *extras)):
        versions = pinned.get(canonicalize_name(requirement.name), set())
        assert versions, f"{requirement} is not in requirements/{lock}.txt: run `make lock`"
        assert all(version in requirement.specifier for version in versions), f"{requirement}: {versions}"


@pytest.mark.parametrize("lock", [*EXTRAS, "gpu-source"])
def test_every_pin_has_hashes_and_no_address(lock: str) -> None:
    for entry in entries(lock):
        assert "--hash=sha256:" in entry
        assert "://" not in entry
        assert "index" not in entry.partition("==")[0]


def test_the_locks_agree_with_each_other() -> None:
    # One environment serves the demo and the tests, so that going from one to the other changes nothing.
    pins = {lock: {entry.split()[0] for entry in entries(lock)} for lock in EXTRAS}
    assert pins["daemon"] < pins["demo"] < pins["test"] < pins["train"]
    assert pins["test"] < pins["gpu-test"]
