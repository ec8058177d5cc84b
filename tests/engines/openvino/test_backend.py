"""The OpenVINO backend: the contract of all backends, and what is its own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import openvino as ov
import pytest

from engines.backend import Compiler
from engines.definition import load_definition
from engines.errors import DeviceError, EngineError, InferenceError
from engines.openvino.compiler import OpenVINOCompiler
from engines.openvino.models import first_line, read_stage
from engines.openvino.runtime import OpenVINORuntime
from tests.engines.contract_backend import BackendContract
from tests.support.tiny_cascade import write_tiny_cascade


class TestOpenVINO(BackendContract):
    @pytest.fixture(scope="class")
    @classmethod
    def compiler(cls) -> Compiler:
        return OpenVINOCompiler()


class _Failing:
    """An infer request on a device that has stopped working."""

    def __init__(self, request: object) -> None:
        self._request = request

    def set_tensor(self, *values: object) -> None:
        del values

    def start_async(self, **options: object) -> None:
        del options
        raise RuntimeError("Exception from src/inference.cpp:1\nthe primitive failed")


@pytest.fixture
def runtime(tmp_path: Path) -> OpenVINORuntime:
    definition = load_definition(write_tiny_cascade(tmp_path))
    compiler = OpenVINOCompiler()
    engines = compiler.build(definition.stages[0], definition, (1,), "f32", tmp_path)
    return compiler.open(definition, engines, slots=1, max_frames=1)


def test_a_failed_run_is_this_batch_s_and_a_failed_probe_the_device_s(runtime: OpenVINORuntime) -> None:
    with contextlib.closing(runtime):
        for slot in (runtime.slots[0], runtime._probe_slot):
            for engine in slot._engines["gate"].values():  # type: ignore[attr-defined]
                object.__setattr__(engine, "request", _Failing(engine.request))
        with pytest.raises(InferenceError, match="gate: inference failed: the primitive failed"):
            runtime.slots[0].gate(np.zeros(1, np.int64))
        with pytest.raises(DeviceError, match="the primitive failed"):
            runtime.probe()


def test_bfloat16_is_tried_only_where_the_processor_has_tiles_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for flags, precisions in ((["amx_bf16", "avx512f"], ("bf16", "f32")), (["avx2"], ("f32",))):
        monkeypatch.setattr("engines.openvino.compiler._processor_flags", lambda flags=flags: flags)
        assert OpenVINOCompiler().precisions == precisions


def test_an_engine_runs_in_the_precision_for_which_it_was_built(tmp_path: Path) -> None:
    """Where there is AMX, OpenVINO runs everything in bfloat16 that is opened without a word about it."""
    definition = load_definition(write_tiny_cascade(tmp_path))
    compiler = OpenVINOCompiler()
    for precision in compiler.precisions:
        engines = compiler.build(definition.stages[0], definition, (1,), precision, tmp_path)
        with contextlib.closing(compiler.open(definition, engines, slots=1, max_frames=1)) as opened:
            request = opened.slots[0]._engines["gate"][1].request  # type: ignore[attr-defined]
            hint = request.get_compiled_model().get_property("INFERENCE_PRECISION_HINT")
        assert hint.to_string() == precision


def test_signals_are_harmless_after_a_build(tmp_path: Path) -> None:
    """A service that built its engines at the start is still ended by SIGTERM, not by a crash."""
    program = (
        "import os, pathlib, signal, sys\n"
        "from engines.build import build_cascade\n"
        "from engines.cascade import open_cascade\n"
        "folder, target = map(pathlib.Path, sys.argv[1:])\n"
        "got = []\n"
        "signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))\n"
        "build_cascade(folder, directory=target)\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "open_cascade(folder, directory=target).close()\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "sys.exit(len(got))\n"
    )
    folder = write_tiny_cascade(tmp_path / "cascade")
    command = [sys.executable, "-c", program, str(folder), str(tmp_path / "engines")]
    assert subprocess.run(command, check=False, timeout=100, cwd=Path(__file__).parents[3]).returncode == 2


@pytest.mark.parametrize("kept", [0, 5000])
def test_a_model_that_is_damaged_is_told_with_what_to_do(tmp_path: Path, kept: int) -> None:
    definition = load_definition(write_tiny_cascade(tmp_path))
    gate = definition.stages[0]
    whole = gate.model.read_bytes()
    gate.model.write_bytes(whole[: min(kept, len(whole) // 2)])
    with pytest.raises(EngineError, match=r"gate\.onnx: gate: not a usable model: (Model can't|Unable)") as caught:
        read_stage(ov.Core(), gate, definition, 1)
    told = str(caught.value)
    assert told.endswith(": the file is no valid ONNX model, take it from where the cascade came from")
    assert "\n" not in told


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (
            "Exception from a.cpp:1\nCheck 'b' failed at c.cpp:2:\nAPI failed with Failure:\nit is damaged\n\n",
            "it is damaged",
        ),
        ("Exception from a.cpp:1\nfailed:\n", "failed:"),
        ("", "RuntimeError"),
    ],
)
def test_of_openvino_s_messages_the_line_that_says_something_is_told(message: str, told: str) -> None:
    assert first_line(RuntimeError(message)) == told
