"""``millwatch build-engines``: what it shows, and that the service takes what it builds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from rich.console import Console

from daemon.cli.build_engines import _table
from engines.backend import EngineFile, Precision
from engines.build import build
from engines.definition import CascadeDefinition, Stage, load_definition
from engines.errors import EngineError
from engines.openvino.compiler import OpenVINOCompiler
from tests.support.tiny_cascade import write_tiny_cascade

ROOT = Path(__file__).parents[3]


def millwatch(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "daemon", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


class HalfCompiler(OpenVINOCompiler):
    """Compiles the classifier in float32 only."""

    def __init__(self) -> None:
        super().__init__()
        self.precisions = ("f16", "f32")

    def build(
        self,
        stage: Stage,
        definition: CascadeDefinition,
        batch_sizes: Sequence[int],
        precision: Precision,
        folder: Path,
    ) -> tuple[EngineFile, ...]:
        if (stage.key, precision) == ("classifier", "f16"):
            raise EngineError("classifier.onnx: cannot be compiled: no kernel for [1, 4]")
        return super().build(stage, definition, batch_sizes, "f32", folder)


def test_the_table_says_why_a_precision_was_refused(tmp_path: Path) -> None:
    report = build(load_definition(write_tiny_cascade(tmp_path / "cascade")), HalfCompiler(), tmp_path, (1,))
    shown = StringIO()
    Console(file=shown, width=160).print(_table(report))
    lines = [" ".join(line.split()) for line in shown.getvalue().splitlines()]
    assert any("classifier │ 1 │ f32" in line for line in lines)
    assert any("gate │ 1 │ f16" in line for line in lines)
    said = " ".join(line for line in lines if "│" not in line)
    assert "classifier: f16 was refused: classifier.onnx: cannot be compiled: no kernel for [1, 4]" in said


def test_engines_are_built_for_the_camera_s_bit_depth(tmp_path: Path) -> None:
    write_tiny_cascade(tmp_path / "cascade")
    settings = ("--set", "cascade=cascade", "--set", "engine.directory=engines", "--set", "engine.rebuild=false")
    deep = (*settings, "--set", "input.bit_depth=12")
    assert "\nbuilt: " in millwatch("build-engines", *deep, folder=tmp_path).stdout
    assert "\nup to date: " in millwatch("build-engines", *deep, folder=tmp_path).stdout
    taken = millwatch("check", "--offline", *deep, folder=tmp_path)
    assert taken.returncode == 0, taken.stdout + taken.stderr
    refused = millwatch("check", "--offline", *settings, folder=tmp_path)
    assert refused.returncode == 4
    assert "at another bit depth" in " ".join((refused.stdout + refused.stderr).split())
    assert "\nbuilt: " in millwatch("build-engines", *settings, folder=tmp_path).stdout
