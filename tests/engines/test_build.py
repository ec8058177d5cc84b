"""Building engines: accepted only where they agree, in force only as a whole, and not twice."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from engines import manifest
from engines.backend import DeviceInfo, EngineFile, Precision
from engines.build import BuildStep, build, build_cascade
from engines.definition import CascadeDefinition, Stage, load_definition
from engines.errors import DeviceError, EngineError, InferenceError, UsageError
from engines.manifest import check_fit
from engines.openvino.compiler import OpenVINOCompiler
from engines.recording import write_recording
from tests.support.tiny_cascade import HEIGHT, WIDTH, gate_graph, recorded_frames, segmenter_graph, write_tiny_cascade


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_cascade(tmp_path / "cascade")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "compiled"


class PerturbedCompiler(OpenVINOCompiler):
    """Builds one stage from another graph in some of the precisions, as a compiler at fault would."""

    def __init__(self, key: str, graph: Path, wrong: tuple[Precision, ...], batch_size: int | None = None) -> None:
        super().__init__()
        self.precisions = ("bf16", "f32")
        self._key, self._graph, self._wrong, self._batch_size = key, graph, wrong, batch_size

    def build(
        self,
        stage: Stage,
        definition: CascadeDefinition,
        batch_sizes: Sequence[int],
        precision: Precision,
        folder: Path,
    ) -> tuple[EngineFile, ...]:
        built: list[EngineFile] = []
        for size in batch_sizes:
            at_fault = stage.key == self._key and precision in self._wrong and self._batch_size in {None, size}
            model = self._graph if at_fault else stage.model
            built += super().build(replace(stage, model=model), definition, (size,), "f32", folder)
        return tuple(built)


def perturbed(folder: Path, key: str) -> Path:
    """The stage's graph with one weight changed a little."""
    graph = segmenter_graph(3, HEIGHT, WIDTH, shift=20) if key == "segmenter-3" else gate_graph(HEIGHT, WIDTH)
    for item in graph.graph.initializer:
        if key == "gate" and item.name == "slope":
            item.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(item) * 0.8, "slope"))
    path = folder / "perturbed.onnx"
    path.write_bytes(graph.SerializeToString())
    return path


def test_a_build_writes_engines_and_a_manifest(folder: Path, directory: Path) -> None:
    steps: list[BuildStep] = []
    report = build_cascade(folder, directory=directory, backend="openvino", batch_sizes=(1, 3), progress=steps.append)
    definition = load_definition(folder)
    assert [step.stage for step in steps] == [stage.key for stage in definition.stages]
    assert report.folder == directory / "tiny" / "openvino"
    assert not report.up_to_date
    assert [(engine.stage, engine.batch_size) for engine in report.engines] == [
        (stage.key, size) for stage in definition.stages for size in (1, 3)
    ]
    assert all(engine.path.is_file() and engine.bytes > 0 and engine.seconds > 0 for engine in report.engines)
    content = json.loads((report.folder / "manifest.json").read_text())
    assert content["schema"] == "millwatch.engines/2"
    assert content["hash"] == definition.hash()
    assert set(content["device"]) == {"backend", "version", "name", "capabilities"}
    assert content["defective_frames"] * 2 >= content["compared_frames"] > 0
    agreements = {
        (stage["stage"], size): agreement
        for stage in content["stages"]
        for engine in stage["engines"]
        for size, agreement in zip(engine["batch_sizes"], engine["agreements"], strict=True)
    }
    assert len(agreements) == 12
    assert agreements["classifier", 3]["max_score_difference"] < 1e-4
    assert agreements["segmenter-1", 3]["max_flipped_share"] == 0
    names = {path.name for path in report.folder.iterdir()}
    assert names == {"manifest.json", ".lock", *(engine.path.name for engine in report.engines)}


def test_an_up_to_date_build_does_nothing(folder: Path, directory: Path) -> None:
    first = build_cascade(folder, directory=directory)
    before = {path: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    again = build_cascade(folder, directory=directory)
    assert again.up_to_date
    assert again.manifest == first.manifest
    assert [engine.seconds for engine in again.engines] == [0] * 6
    assert {path: path.stat().st_mtime_ns for path in first.folder.iterdir()} == before
    assert not build_cascade(folder, directory=directory, force=True).up_to_date
    assert not build_cascade(folder, directory=directory, batch_sizes=(2,)).up_to_date
    # Thresholds are inputs of the engines: a change of theirs is no reason to build.
    text = (folder / "cascade.yaml").read_text()
    (folder / "cascade.yaml").write_text(text.replace("min_area_px: 10", "min_area_px: 99"))
    assert build_cascade(folder, directory=directory, batch_sizes=(2,)).up_to_date


@pytest.mark.parametrize(
    ("key", "figure"), [("gate", r"a score is off by 0\.\d+"), ("segmenter-3", r"\d+\.\d+% of a mask's frame flip")]
)
def test_an_engine_that_disagrees_is_refused(folder: Path, directory: Path, key: str, figure: str) -> None:
    compiler = PerturbedCompiler(key, perturbed(folder, key), ("bf16", "f32"), batch_size=3)
    with pytest.raises(EngineError, match=f"{key} at batch size 3 in f32: ({figure})") as caught:
        build(load_definition(folder), compiler, directory, (1, 3))
    assert caught.value.exit_code == 4
    assert [path.name for path in (directory / "tiny" / "openvino").iterdir()] == [".lock"]


def test_a_stage_that_disagrees_in_the_faster_precision_gets_the_exact_one(folder: Path, directory: Path) -> None:
    compiler = PerturbedCompiler("segmenter-3", perturbed(folder, "segmenter-3"), ("bf16",), batch_size=3)
    report = build(load_definition(folder), compiler, directory, (1, 3))
    assert report.manifest.precisions["segmenter-3"] == "f32"
    assert report.manifest.precisions["segmenter-2"] == "bf16"
    refused = {stage.stage: stage.refused for stage in report.manifest.stages if stage.refused}
    assert set(refused) == {"segmenter-3"}
    (why,) = refused["segmenter-3"]
    assert (why.precision, why.batch_size) == ("bf16", 3)
    assert "of a mask's frame flip" in why.reason
    assert not list(report.folder.glob("segmenter-3-*-bf16-*"))
    assert build(load_definition(folder), compiler, directory, (1, 3)).manifest == report.manifest


class FailingCompiler(OpenVINOCompiler):
    """Cannot compile, or not run, one stage in some of the precisions."""

    def __init__(self, error: type[EngineError | InferenceError], wrong: tuple[Precision, ...]) -> None:
        super().__init__()
        self.precisions = ("bf16", "f32")
        self._error, self._wrong = error, wrong

    def build(
        self,
        stage: Stage,
        definition: CascadeDefinition,
        batch_sizes: Sequence[int],
        precision: Precision,
        folder: Path,
    ) -> tuple[EngineFile, ...]:
        if stage.key == "classifier" and precision in self._wrong:
            raise self._error(f"{stage.model}: no kernel for {precision}")
        return super().build(stage, definition, batch_sizes, "f32", folder)


@pytest.mark.parametrize("error", [EngineError, InferenceError])
def test_a_stage_that_fails_in_the_faster_precision_gets_the_exact_one(
    folder: Path, directory: Path, error: type[EngineError | InferenceError]
) -> None:
    found = build(load_definition(folder), FailingCompiler(error, ("bf16",)), directory, (1,)).manifest
    assert found.precisions["classifier"] == "f32"
    assert found.precisions["gate"] == "bf16"
    (why,) = found.stages[1].refused
    assert (why.precision, why.batch_size) == ("bf16", None)
    assert "no kernel for bf16" in why.reason


def test_a_stage_that_fails_in_every_precision_ends_the_build(folder: Path, directory: Path) -> None:
    with pytest.raises(EngineError, match=r"no engine of classifier in f32: .*no kernel for f32"):
        build(load_definition(folder), FailingCompiler(EngineError, ("bf16", "f32")), directory, (1,))


def test_a_build_that_fails_leaves_the_engines_before_it_in_force(folder: Path, directory: Path) -> None:
    first = build_cascade(folder, directory=directory)
    compiler = PerturbedCompiler("gate", perturbed(folder, "gate"), ("bf16", "f32"))
    with pytest.raises(EngineError, match="gate at batch size 1"):
        build(load_definition(folder), compiler, directory, (1,), force=True)
    assert build_cascade(folder, directory=directory).manifest == first.manifest


def test_a_model_that_is_replaced_while_it_is_built_does_not_fit(folder: Path, directory: Path) -> None:
    def replace_the_gate(step: BuildStep) -> None:
        if step.number == 2:
            (folder / "gate.onnx").write_bytes(perturbed(folder, "gate").read_bytes())

    build_cascade(folder, directory=directory, progress=replace_the_gate)
    fit = check_fit(directory, load_definition(folder), OpenVINOCompiler(), bit_depth=16)
    assert "other models" in fit.problem
    assert not build_cascade(folder, directory=directory).up_to_date


def test_what_a_killed_builder_left_goes_with_the_next_build(folder: Path, directory: Path) -> None:
    left = directory / "tiny" / "openvino" / ".build-killed"
    left.mkdir(parents=True)
    (left / "gate-b1.blob").write_bytes(b"half an engine")
    build_cascade(folder, directory=directory)
    assert not left.exists()


class FullDiskCompiler(OpenVINOCompiler):
    def build(
        self,
        stage: Stage,
        definition: CascadeDefinition,
        batch_sizes: Sequence[int],
        precision: Precision,
        folder: Path,
    ) -> tuple[EngineFile, ...]:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_one_line(folder: Path, directory: Path) -> None:
    with pytest.raises(EngineError, match="engines cannot be written there: No space left"):
        build(load_definition(folder), FullDiskCompiler(), directory, (1,))


def test_engines_fit_only_what_they_were_built_for(folder: Path, directory: Path) -> None:
    report = build_cascade(folder, directory=directory)
    definition, compiler = load_definition(folder), OpenVINOCompiler()
    fit = check_fit(directory, definition, compiler, bit_depth=16)
    assert fit.manifest == report.manifest
    assert fit.manifest.hash == definition.hash()

    def problem(changed: CascadeDefinition = definition, **values: str) -> str:
        there = OpenVINOCompiler()
        there.device = replace(there.device, **values)
        found = check_fit(directory, changed, there, bit_depth=16)
        assert found.manifest is None
        return found.problem

    assert "here is 2020.1" in problem(version="2020.1")
    assert "here is another processor" in problem(name="another processor")
    assert "(avx2 amx_bf16)" in problem(capabilities="avx2 amx_bf16")
    (folder / "gate.onnx").write_bytes((folder / "gate.onnx").read_bytes() + b"\0")
    assert "other models" in problem(load_definition(folder))
    write_tiny_cascade(folder)
    engine = report.engines[2].path
    engine.write_bytes(engine.read_bytes()[:-1])
    assert f"{engine.name} is missing or changed" in problem()
    engine.unlink()
    assert f"{engine.name} is missing or changed" in problem()
    text = (report.folder / "manifest.json").read_text()
    (report.folder / "manifest.json").write_text(text.replace("millwatch.engines/2", "millwatch.engines/1"))
    assert "not a manifest of this version" in problem()
    assert not build_cascade(folder, directory=directory).up_to_date


def test_engines_fit_only_as_they_would_be_built_now(
    folder: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_cascade(folder, directory=directory, batch_sizes=(1, 3))
    definition, compiler = load_definition(folder), OpenVINOCompiler()
    assert check_fit(directory, definition, compiler, bit_depth=16).manifest is not None
    assert check_fit(directory, definition, compiler, bit_depth=16, batch_sizes=(3, 1)).manifest is not None
    found = check_fit(directory, definition, compiler, bit_depth=16, batch_sizes=(2,))
    assert "built for batches of 1, 3, wanted are 2" in found.problem
    assert check_fit(directory, definition, compiler, bit_depth=16, batch_sizes=(3,)).manifest is not None
    assert "wanted are 1, 2" in check_fit(directory, definition, compiler, bit_depth=16, batch_sizes=(1, 2)).problem
    assert "bit depth" in check_fit(directory, definition, compiler, bit_depth=12).problem
    compiler.precisions = ("f16", *compiler.precisions)
    assert "other precisions" in check_fit(directory, definition, compiler, bit_depth=16).problem
    otherwise = OpenVINOCompiler()
    otherwise.options = {"kernels": "others"}
    assert "options" in check_fit(directory, definition, otherwise, bit_depth=16).problem
    monkeypatch.setattr(manifest, "MIN_DICE", 0.99)
    assert "limits" in check_fit(directory, definition, OpenVINOCompiler(), bit_depth=16).problem


class BroadCompiler(OpenVINOCompiler):
    """Runs what was built for any processor."""

    def runs(self, built_for: DeviceInfo) -> bool:
        return built_for.backend == "openvino"


def test_an_engine_built_for_more_than_its_device_fits_elsewhere(folder: Path, directory: Path) -> None:
    report = build_cascade(folder, directory=directory)
    there = BroadCompiler()
    there.device = replace(there.device, name="another processor")
    assert check_fit(directory, load_definition(folder), there, bit_depth=16).manifest == report.manifest
    there.device = replace(there.device, version="2020.1")
    assert "here is 2020.1" in check_fit(directory, load_definition(folder), there, bit_depth=16).problem


class OneFileCompiler(OpenVINOCompiler):
    """Spreads batch sizes over files as a backend with several in one file does: the runtime sees the first alone."""

    def build(
        self,
        stage: Stage,
        definition: CascadeDefinition,
        batch_sizes: Sequence[int],
        precision: Precision,
        folder: Path,
    ) -> tuple[EngineFile, ...]:
        (built,) = super().build(stage, definition, batch_sizes[:1], precision, folder)
        return (replace(built, batch_sizes=tuple(batch_sizes)),)


def test_a_file_for_several_batch_sizes_is_compared_at_each_of_them(folder: Path, directory: Path) -> None:
    compiler = OneFileCompiler()
    report = build(load_definition(folder), compiler, directory, (1, 3))
    stages = report.manifest.stages
    assert [[engine.batch_sizes for engine in stage.engines] for stage in stages] == [[(1, 3)]] * 6
    assert all(len(engine.agreements) == 2 for stage in stages for engine in stage.engines)
    assert [engine.batch_sizes for engine in report.manifest.engine_files(report.folder)] == [(1, 3)] * 6
    gate = [engine for engine in report.engines if engine.stage == "gate"]
    assert [engine.batch_size for engine in gate] == [1, 3]
    assert len({engine.path for engine in gate}) == 1
    assert gate[0].path.name.startswith("gate-b1-3-")
    assert sum(engine.bytes for engine in gate) == gate[0].path.stat().st_size
    assert check_fit(directory, load_definition(folder), compiler, bit_depth=16, batch_sizes=(3,)).manifest is not None
    assert build(load_definition(folder), compiler, directory, (1, 3)).up_to_date


def test_engines_are_compared_on_frames_of_the_camera_s_depth(folder: Path, directory: Path) -> None:
    """Frames of 12 bits that are read as 16 are black, and the models see no defect on them."""
    dark = []
    for frame in recorded_frames():
        grey = cv2.imdecode(np.frombuffer(frame.value or b"", np.uint8), cv2.IMREAD_GRAYSCALE)
        deeper = (grey.astype(np.uint16) << 4) | (grey >> 4)
        dark.append(replace(frame, value=cv2.imencode(".png", deeper)[1].tobytes()))
    # The gate takes black for defective, too, and the classifier then sees the class of dark grey.
    write_recording(folder / "recording.parquet", dark)
    report = build_cascade(folder, directory=directory, bit_depth=12)
    assert (report.manifest.defective_frames, report.manifest.compared_frames) == (8, 16)
    assert build_cascade(folder, directory=directory, bit_depth=12).up_to_date
    assert build_cascade(folder, directory=directory, bit_depth=16).manifest.compared_frames != 16


def test_two_builders_wait_for_each_other(folder: Path, directory: Path) -> None:
    first_is_building, go_on = threading.Event(), threading.Event()

    def hold(step: BuildStep) -> None:
        if step.number == 1:
            first_is_building.set()
            assert go_on.wait(20)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(build_cascade, folder, directory=directory, progress=hold)
        assert first_is_building.wait(20)
        second = pool.submit(build_cascade, folder, directory=directory)
        go_on.set()
        assert not first.result(60).up_to_date
        assert second.result(60).up_to_date


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_cannot_be_written(folder: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(EngineError, match="cannot be written there"):
        build_cascade(folder, directory=tmp_path / "compiled")


def test_a_directory_that_is_a_file(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match="engines cannot be written there"):
        build_cascade(folder, directory=tmp_path / "file")


def test_what_cannot_be_built_says_why(
    folder: Path, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No driver, also where there is one: the loader takes this file, and it is no library.
    (tmp_path / "libcuda.so.1").write_bytes(b"no library")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    with pytest.raises(DeviceError, match="no NVIDIA driver here"):
        build_cascade(folder, directory=directory, backend="tensorrt")
    with pytest.raises(EngineError, match="no recording to compare engines on"):
        build_cascade(write_tiny_cascade(tmp_path / "bare", recording=False), directory=directory)
    (folder / "recording.parquet").unlink()
    with pytest.raises(UsageError, match="no such recording"):
        build_cascade(folder, directory=directory)
