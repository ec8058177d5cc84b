"""What is the GPU runtime's own: order, memory, graphs, and the files that it opens."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pycuda", reason="no PyCUDA here: make test-gpu has it")

from engines.backend import EngineFile
from engines.cascade import Cascade
from engines.definition import CascadeDefinition, load_definition
from engines.errors import DeviceError, EngineError
from engines.images import Frame
from engines.openvino.compiler import OpenVINOCompiler
from engines.results import EngineIdentity
from engines.settings import effective_settings
from engines.tensorrt import device
from tests.gpu.backend import stub_tensorrt
from tests.gpu.backend.fake_driver import FakeDriver
from tests.gpu.backend.stub_compiler import StubCompiler
from tests.support.tiny_cascade import HEIGHT, WIDTH, frame_with, gate_score, mask_of, write_tiny_cascade

SIZES = (1, 2, 4)
FRAMES = [frame_with({number % 4 + 1: [(5 + 9 * number, 4, 30, 20)]}) for number in range(7)]
EVERY = np.arange(len(FRAMES), dtype=np.int64)


@pytest.fixture(scope="module")
def definition(tmp_path_factory: pytest.TempPathFactory) -> CascadeDefinition:
    return load_definition(write_tiny_cascade(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def engines(definition: CascadeDefinition, tmp_path_factory: pytest.TempPathFactory) -> list[EngineFile]:
    folder = tmp_path_factory.mktemp("engines")
    compiler = StubCompiler()
    return [
        engine
        for stage in definition.stages
        for engine in compiler.build(stage, definition, (*SIZES, 8), "f32", folder)
    ]


OpenRuntime = Callable[..., Any]


@contextlib.contextmanager
def opening(driver: FakeDriver, definition: CascadeDefinition, engines: list[EngineFile]) -> Iterator[OpenRuntime]:
    """Opens runtimes; at the end they are closed, nothing is held any more, and TensorRT had no reason to complain."""
    with contextlib.ExitStack() as opened:

        def open_with(slots: int = 1, max_frames: int = 8) -> Any:
            runtime = StubCompiler().open(definition, engines, slots=slots, max_frames=max_frames)
            return opened.enter_context(contextlib.closing(runtime))

        yield open_with
    assert not any(driver.counts().held), driver.counts()
    assert stub_tensorrt.violations == []


@pytest.fixture
def open_runtime(driver: FakeDriver, definition: CascadeDefinition, engines: list[EngineFile]) -> Iterator[OpenRuntime]:
    with opening(driver, definition, engines) as open_with:
        yield open_with


def check(slot: Any, frames: list[Frame] = FRAMES) -> None:
    """A slot says of frames what is true of them."""
    index = np.arange(len(frames), dtype=np.int64)
    slot.load(frames)
    np.testing.assert_allclose(slot.gate(index), [gate_score(frame) for frame in frames], atol=5e-3)
    for mask, frame in zip(slot.segment(0, index, 0.5), frames, strict=True):
        np.testing.assert_array_equal(mask, mask_of(frame, 1).T)


def test_a_cascade_says_on_it_what_it_says_with_openvino(
    driver: FakeDriver, definition: CascadeDefinition, engines: list[EngineFile], tmp_path: Path
) -> None:
    compiler = OpenVINOCompiler()
    on_processor = [
        engine for stage in definition.stages for engine in compiler.build(stage, definition, (1,), "f32", tmp_path)
    ]
    settings, identity = effective_settings(definition), EngineIdentity("tiny", "", "", "")
    found = []
    for runtime in (
        StubCompiler().open(definition, engines, slots=2, max_frames=8),
        compiler.open(definition, on_processor, slots=1, max_frames=8),
    ):
        with Cascade(definition, settings, identity, runtime) as cascade:
            found.append(cascade.inspect([frame_with(), *FRAMES]))
    for ours, theirs in zip(*found, strict=True):
        assert [(each.class_id, each.rle) for each in ours.defects] == [
            (each.class_id, each.rle) for each in theirs.defects
        ]
        assert ours.gate_score == pytest.approx(theirs.gate_score, abs=5e-3)
    assert [inspection.verdict for inspection in found[0]] == ["clean", *["defective"] * 7]


def test_results_are_read_only_after_the_device_was_waited_for(
    open_runtime: OpenRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard of this folder's tests: without the one wait of a run they fail."""
    runtime = open_runtime()
    with runtime.slots[0] as slot:
        check(slot)
        with monkeypatch.context() as broken:
            broken.setattr("engines.tensorrt.slot.TensorRTSlot._finished", _finished_without_waiting)
            with pytest.raises(AssertionError):
                check(slot, FRAMES[::-1])
        check(slot)


def _finished_without_waiting(self: Any, chunk: Any, engine: Any, turn: Any) -> tuple[Any, Any]:
    output = turn.output[: engine.output_bytes].view(engine.output_type)
    return chunk, output.reshape(engine.output_shape)


def test_the_next_chunk_is_on_its_way_while_the_masks_of_one_are_read(
    open_runtime: OpenRuntime, driver: FakeDriver
) -> None:
    with open_runtime().slots[0] as slot:
        slot.load(FRAMES)
        before = driver.calls()["cuGraphLaunch"]
        masks = slot.segment(0, EVERY, 0.5)
        next(masks)
        # 7 frames are chunks of 4, 2 and 1.
        assert driver.calls()["cuGraphLaunch"] - before == 2
        for mask, frame in zip(masks, FRAMES[1:], strict=True):
            np.testing.assert_array_equal(mask, mask_of(frame, 1).T)
        assert driver.calls()["cuGraphLaunch"] - before == 3


def test_slots_that_run_in_the_midst_of_each_other_never_mix(
    open_runtime: OpenRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One slot does all that it can do wherever the other one has anything under way."""
    first, second = open_runtime(slots=2).slots
    frames = [frame_with({1: [(5 + 9 * number, 4, 30, 20)]}) for number in range(7)]

    def run_second() -> None:
        with second, monkeypatch.context() as patch:
            patch.setattr(stub_tensorrt, "meanwhile", stub_tensorrt.alone)
            second.load(frames[::-1])
            for mask in second.segment(0, np.ones(7, np.int64), 0.9999):
                assert not mask.any()

    monkeypatch.setattr(stub_tensorrt, "meanwhile", run_second)
    with first:
        first.load(frames)
        run_second()
        for mask, frame in zip(first.segment(0, EVERY, 0.5), frames, strict=True):
            run_second()
            np.testing.assert_array_equal(mask, mask_of(frame, 1).T)


def test_padding_repeats_a_frame_that_is_there(open_runtime: OpenRuntime) -> None:
    runtime = open_runtime()
    with runtime.slots[0] as slot:
        for sizes in slot._engines.values():
            for small in SIZES:
                del sizes[small]
        for turn in slot._turns:
            turn.index[:] = 1 << 40
        check(slot)


def test_nothing_is_allocated_once_it_is_open(open_runtime: OpenRuntime, driver: FakeDriver) -> None:
    runtime = open_runtime(slots=2)
    before = driver.counts()
    for _ in range(3):
        for slot in runtime.slots:
            with slot:
                check(slot)
        runtime.probe()
    assert driver.counts() == before


def test_frames_are_uploaded_once_for_all_stages(open_runtime: OpenRuntime, driver: FakeDriver) -> None:
    runtime = open_runtime()
    before = driver.calls()["cuMemcpyHtoDAsync"]
    with runtime.slots[0] as slot:
        check(slot)
    assert driver.calls()["cuMemcpyHtoDAsync"] - before == 1


def test_every_stage_is_a_graph_at_every_batch_size(open_runtime: OpenRuntime) -> None:
    captures = open_runtime().captures
    assert {(each.stage, each.batch_size) for each in captures} == {
        (stage, size)
        for stage in ("gate", "classifier", "segmenter-1", "segmenter-2", "segmenter-3", "segmenter-4")
        for size in (*SIZES, 8)
    }
    assert {each.refusal for each in captures} == {None}


def test_no_stream_waits_for_the_legacy_default_stream(open_runtime: OpenRuntime) -> None:
    """Other libraries of the process work there: what one of them does must not bring the slots to a halt."""
    from cuda.bindings import driver as bindings

    runtime = open_runtime(slots=2)
    with runtime.slots[0]:
        for stream in (*(slot._stream for slot in runtime.slots), runtime._probe_stream):
            code, flags = bindings.cuStreamGetFlags(bindings.CUstream(stream.handle))
            assert (int(code), flags) == (0, int(bindings.CUstream_flags.CU_STREAM_NON_BLOCKING))


def test_what_cannot_be_recorded_is_launched_plainly(
    open_runtime: OpenRuntime, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(stub_tensorrt.settings, "capturable", False)
    runtime = open_runtime()
    assert {each.refusal for each in runtime.captures} == {"operation not permitted when stream is capturing"}
    with runtime.slots[0] as slot:
        check(slot)
    assert "cuGraphLaunch" not in driver.calls()


def test_closing_waits_for_masks_that_nobody_read(open_runtime: OpenRuntime) -> None:
    runtime = open_runtime()
    with runtime.slots[0] as slot:
        slot.load(FRAMES)
        next(slot.segment(0, EVERY, 0.5))
    runtime.close()
    runtime.close()


def test_a_buffer_that_is_not_freed_is_counted(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard of the leak checks."""
    from engines.tensorrt.context import leave, primary_context
    from engines.tensorrt.memory import on_device

    kept = on_device(1000)
    with primary_context(0) as owned:
        kept.__enter__()
        leave(owned)
    assert driver.counts().device_bytes == 1000


def test_the_context_is_current_only_within_a_slot(open_runtime: OpenRuntime, driver: FakeDriver) -> None:
    runtime = open_runtime()
    assert driver.counts().current_contexts == 0
    with runtime.slots[0] as slot:
        assert driver.counts().current_contexts == 1
        slot.load(FRAMES[:1])
    assert driver.counts().current_contexts == 0
    runtime.probe()
    assert driver.counts().current_contexts == 0


@pytest.mark.usefixtures("driver")
def test_the_fake_device_is_refused_outside_tests(
    definition: CascadeDefinition, engines: list[EngineFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "_fake_allowed", False)
    with pytest.raises(DeviceError, match="belongs to Millwatch's tests"):
        StubCompiler().open(definition, engines, slots=1, max_frames=8)


@pytest.mark.parametrize(
    ("sizes", "frame", "listed", "message"),
    [
        ((1, 4), (HEIGHT, WIDTH), (1, 4), "built for batches of at most 4 frames, asked for are 8"),
        ((1, 8), (HEIGHT, WIDTH), (1, 2, 8), "has 2 profiles, not 3"),
        ((1, 8), (HEIGHT, WIDTH), (2, 8), "profile 0 is not for batches of 2 frames"),
        ((8,), (HEIGHT, WIDTH + 1), (8,), rf"for frames of \[{HEIGHT}, {WIDTH + 1}\], not \[{HEIGHT}, {WIDTH}\]"),
    ],
)
def test_a_plan_that_is_not_what_its_manifest_says_is_an_engine_error(
    driver: FakeDriver,
    definition: CascadeDefinition,
    tmp_path: Path,
    sizes: tuple[int, ...],
    frame: tuple[int, int],
    listed: tuple[int, ...],
    message: str,
) -> None:
    path = tmp_path / "gate.plan"
    path.write_bytes(stub_tensorrt.stub_plan(definition.stages[0].model.read_bytes(), sizes, frame))
    with pytest.raises(EngineError, match=rf"gate\.plan: {message}"):
        StubCompiler().open(definition, [EngineFile("gate", listed, "f32", path)], slots=1, max_frames=8)
    gc.collect()
    assert not any(driver.counts().held)


def test_the_plan_of_another_stage_is_an_engine_error(
    driver: FakeDriver, definition: CascadeDefinition, engines: list[EngineFile]
) -> None:
    swapped = EngineFile("gate", (*SIZES, 8), "f32", engines[2].path)
    with pytest.raises(EngineError, match="not an engine of gate: its tensors are frames uint8, index int64, masks"):
        StubCompiler().open(definition, [swapped], slots=1, max_frames=8)
    assert not any(driver.counts().held)
