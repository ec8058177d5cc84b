"""A cascade's whole build for a GPU: graphs, TensorRT for RTX in the place of the builder, the runtime, the comparison.

Only the numbers are the processor's: ONNX Runtime computes what a GPU would, so that agreement here says nothing of a
GPU's.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pycuda", reason="no PyCUDA here: make test-gpu has it")
pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT for RTX is not installed (make test-gpu)")

import onnx
import tensorrt_rtx_bindings as rtx

from engines import comparison_frames
from engines.backend import EngineFile, Precision, Runtime
from engines.build import build
from engines.definition import CascadeDefinition, Stage, load_definition
from engines.errors import DeviceError, EngineError
from engines.manifest import check_fit
from engines.tensorrt.compiler import TensorRTCompiler
from engines.tensorrt.half import to_half
from tests.gpu.backend import stub_tensorrt
from tests.gpu.backend.fake_driver import FakeDriver
from tests.gpu.backend.stub_compiler import DEVICE
from tests.support.tiny_cascade import write_tiny_cascade

SHIPPED = load_definition(Path(__file__).parents[3] / "cascades" / "reference")

pytestmark = [
    pytest.mark.filterwarnings("ignore:Use Deprecated in TensorRT-RTX 1.2:DeprecationWarning"),
    # Plans are built and networks run on the processor, which others may be using.
    pytest.mark.timeout(600),
]


class RehearsedCompiler(TensorRTCompiler):
    """Builds with TensorRT for RTX, and runs the same graphs with the stand-in for TensorRT.

    ``spoilt`` is a stage whose half-precision plan computes what the gate does not.
    """

    spoilt: str | None = None

    def build(
        self,
        stage: Stage,
        definition: CascadeDefinition,
        batch_sizes: Sequence[int],
        precision: Precision,
        folder: Path,
    ) -> tuple[EngineFile, ...]:
        built = super().build(stage, definition, batch_sizes, precision, folder)
        graph = onnx.load(stage.model)
        if precision == "f16":
            graph = to_half(graph)
            if stage.key == self.spoilt:
                spoil(graph)
        frame = (definition.input.height, definition.input.width)
        for file in built:
            assert file.path.stat().st_size > 1000
            file.path.write_bytes(stub_tensorrt.stub_plan(graph.SerializeToString(), batch_sizes, frame))
        return built

    def open(self, *arguments: Any, **options: Any) -> Runtime:
        library, self._library = self._library, stub_tensorrt
        try:
            return super().open(*arguments, **options)
        finally:
            self._library = library


def spoil(graph: onnx.ModelProto) -> None:
    """Turn the scores around."""
    last = graph.graph.node[-1]
    last.input[0], score = "around", last.input[0]
    graph.graph.node.insert(len(graph.graph.node) - 1, onnx.helper.make_node("Neg", [score], ["around"]))


@pytest.fixture
def few_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison_frames, "COMPARED_FRAMES", 4)


@pytest.fixture
def compiler(driver: FakeDriver, tmp_path: Path) -> Iterator[RehearsedCompiler]:
    yield RehearsedCompiler(DEVICE, rtx, cache_folder=tmp_path)
    gc.collect()
    assert stub_tensorrt.violations == []
    assert not any(driver.counts().held)


@pytest.mark.usefixtures("few_frames")
def test_the_shipped_cascade_is_built_compared_and_found_again(compiler: RehearsedCompiler, tmp_path: Path) -> None:
    compiler.spoilt = "gate"
    report = build(SHIPPED, compiler, tmp_path, compiler.batch_sizes(3))
    assert report.folder == tmp_path / "reference" / "tensorrt"
    assert report.manifest.precisions == {
        stage.key: "f32" if stage.key == "gate" else "f16" for stage in SHIPPED.stages
    }
    (refused,) = report.manifest.stages[0].refused
    assert (refused.precision, refused.batch_size) == ("f16", 1)
    assert "a score is off by" in refused.reason
    for stage in report.manifest.stages:
        (engine,) = stage.engines
        assert engine.batch_sizes == (1, 2, 3)
        assert len(engine.agreements) == 3
        assert engine.file == f"{stage.stage}-b1-2-3-{stage.precision}-{engine.digest}.plan"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [".timing-cache-1.7.1.116-FAKE"]
    assert build(SHIPPED, compiler, tmp_path, compiler.batch_sizes(2)).up_to_date
    wider = check_fit(tmp_path, SHIPPED, compiler, bit_depth=16, batch_sizes=compiler.batch_sizes(4))
    assert "built for batches of 1, 2, 3, wanted are 1, 2, 4" in wider.problem


def test_a_stage_without_convolutions_is_float32_and_says_why(compiler: RehearsedCompiler, tmp_path: Path) -> None:
    tiny = load_definition(write_tiny_cascade(tmp_path / "tiny"))
    manifest = build(tiny, compiler, tmp_path, (1, 2)).manifest
    assert set(manifest.precisions.values()) == {"f32"}
    for stage in manifest.stages:
        (refused,) = stage.refused
        assert (refused.precision, refused.batch_size) == ("f16", None)
        assert "no convolution in it" in refused.reason


def test_a_device_that_is_lost_while_an_engine_is_built_is_no_refusal(
    compiler: RehearsedCompiler, driver: FakeDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*arguments: Any) -> bytes:
        driver.fault()
        raise EngineError("gate: cannot be built: an unspecified launch failure")

    tiny = load_definition(write_tiny_cascade(tmp_path / "tiny"))
    monkeypatch.setattr("engines.tensorrt.compiler.build_plan", lose)
    with pytest.raises(DeviceError, match="the GPU does not answer any more: building an engine: gate: cannot be"):
        build(tiny, compiler, tmp_path, (1,))
    # A device that is lost refuses even that its context is no longer current.
    driver.reset()


def test_a_device_that_does_not_start_is_a_device_error(
    compiler: RehearsedCompiler, driver: FakeDriver, tmp_path: Path
) -> None:
    tiny = load_definition(write_tiny_cascade(tmp_path / "tiny"))
    driver.fail("cuDevicePrimaryCtxRetain")
    with pytest.raises(DeviceError, match="the GPU does not start: "):
        compiler.build(tiny.stages[0], tiny, (1,), "f32", tmp_path)
