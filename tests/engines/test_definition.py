"""Reading cascade.yaml: what is in it, and one clear line for what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from engines.definition import load_definition
from engines.errors import UsageError
from tests.support.tiny_cascade import write_tiny_cascade


def change(folder: Path, /, **values: Any) -> Path:
    path = folder / "cascade.yaml"
    content = yaml.safe_load(path.read_text())
    content.update(values)
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not ...}))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_cascade(tmp_path)


def test_the_stages_of_a_cascade(folder: Path) -> None:
    definition = load_definition(folder)
    keys = ["gate", "classifier", "segmenter-1", "segmenter-2", "segmenter-3", "segmenter-4"]
    assert [stage.key for stage in definition.stages] == keys
    assert [stage.class_number for stage in definition.stages] == [None, None, 0, 1, 2, 3]
    assert all(stage.model.is_file() for stage in definition.stages)
    assert definition.recording_path == folder / "recording.parquet"
    assert definition.truth_path is None
    assert (definition.input.height, definition.input.width) == (64, 160)
    assert definition.provenance == {"made_by": "tests.support.tiny_cascade"}


def test_a_recording_that_is_named_and_not_there_is_told_with_who_names_it(folder: Path) -> None:
    (folder / "recording.parquet").unlink()
    definition = load_definition(folder)
    with pytest.raises(
        UsageError, match=r"recording\.parquet: no such recording, which 'recording' in .*cascade\.yaml"
    ):
        _ = definition.recording_path


CLASS = {"id": 1, "name": "pits", "model": "segmenter-1.onnx"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"schema": "millwatch.cascade/2"}, "schema: "),
        ({"schema": ...}, "schema: missing"),
        ({"colour": "grey"}, "colour: unknown key"),
        ({"folder": "/"}, "folder: unknown key"),
        ({"name": "a/b"}, "name: "),
        ({"version": 1}, "version: input should be a valid string, not 1"),
        ({"input": {"height": 256}}, "input.width: missing"),
        ({"input": {"height": 256, "width": "wide"}}, "input.width: "),
        ({"gate": {"model": "gate.onnx", "threshold": 1.5}}, "gate.threshold: "),
        ({"gate": {"model": "../gate.onnx"}}, "gate.model: "),
        ({"classifier": {"model": "none.onnx"}}, "classifier: there is no model none.onnx"),
        ({"classes": []}, "classes: "),
        ({"classes": [CLASS, {**CLASS, "name": "more"}]}, "two classes have the id 1"),
        ({"classes": [CLASS, {**CLASS, "id": 2}]}, "two classes have the name 'pits'"),
        ({"classes": [{**CLASS, "mask_threshold": 0}]}, "classes.0.mask_threshold: "),
        ({"classes": [{**CLASS, "min_area_px": -1}]}, "classes.0.min_area_px: "),
        ({"classes": [{**CLASS, "threshhold": 0.4}]}, "classes.0.threshhold: unknown key"),
    ],
)
def test_what_is_wrong_is_one_line_with_file_and_key(folder: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_definition(change(folder, **values))
    line = str(caught.value)
    assert line.startswith(f"{folder / 'cascade.yaml'}: ")
    assert message in line
    assert "\n" not in line


def test_files_that_are_no_definition(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no cascade: name its folder") as nowhere:
        load_definition(tmp_path / "etc" / ".." / "missing")
    assert str(nowhere.value).startswith(f"{tmp_path.resolve() / 'missing' / 'cascade.yaml'}: ")
    assert "from whose folder a relative path starts" in str(nowhere.value)
    for content, message in ((b"- a\n", "a mapping"), (b"a: [", "not valid YAML"), (b"\xff\xfe\x00", "UTF-8")):
        (folder / "cascade.yaml").write_bytes(content)
        with pytest.raises(UsageError, match=message) as caught:
            load_definition(folder)
        assert "\n" not in str(caught.value)


def test_the_hash_names_the_models_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    before = load_definition(folder).hash()
    gate = {"model": "gate.onnx", "threshold": 0.7}
    assert load_definition(change(folder, gate=gate, version="2")).hash() == before
    model = folder / "segmenter-2.onnx"
    model.write_bytes(model.read_bytes() + b"\0")
    assert load_definition(folder).hash() != before
