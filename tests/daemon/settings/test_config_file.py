"""The shipped config.yaml shows every key, with its default, and says something of each."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from daemon.settings import ClassSettings, Settings, load_settings
from daemon.settings.load import known_keys

ROOT = Path(__file__).parents[3]
FILE = ROOT / "config.yaml"
SECTIONS = {path[: len(path) - 1] for path in known_keys()}


def test_it_loads_to_the_defaults(monkeypatch: Any) -> None:
    monkeypatch.chdir(ROOT)
    defaults = load_settings(Path("/dev/null")).model_dump(exclude={"cascade": True, "engine": {"directory"}})
    assert load_settings(FILE).model_dump(exclude={"cascade": True, "engine": {"directory"}}) == defaults
    assert load_settings(FILE).cascade == ROOT / Settings.model_fields["cascade"].default


def test_every_key_is_there_and_no_other() -> None:
    def leaves(tree: dict[str, Any], above: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
        found = set()
        for key, value in tree.items():
            found |= leaves(value, (*above, key)) if isinstance(value, dict) and value else {(*above, key)}
        return found

    in_file = leaves(yaml.safe_load(FILE.read_text(encoding="utf-8")))
    in_model = {path for path in known_keys() if path not in SECTIONS and path[0] != "classes"}
    # The default is the host's name, which no file can show.
    assert in_model - in_file == {("kafka", "instance")}
    assert in_file - in_model == {("classes",)}
    assert "# instance:" in FILE.read_text(encoding="utf-8")


def test_the_keys_of_a_class_are_shown_as_an_example() -> None:
    shown = re.findall(r"^#     (\w+):", FILE.read_text(encoding="utf-8"), re.MULTILINE)
    assert shown == list(ClassSettings.model_fields)


def test_every_key_has_its_meaning_beside_it() -> None:
    lines = FILE.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if re.match(r"^\s*\w+: \S", line):
            assert "#" in line or lines[number - 1].lstrip().startswith("#"), line


def test_every_key_is_described_in_the_model() -> None:
    def fields(model: Any) -> Any:
        for name, field in model.model_fields.items():
            yield name, field
            if isinstance(field.annotation, type) and hasattr(field.annotation, "model_fields"):
                yield from fields(field.annotation)

    assert all(field.description for _, field in fields(Settings))
