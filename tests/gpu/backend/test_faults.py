"""Every call of the driver, failing once and for good: each ends as the port says, and nothing stays behind."""

from __future__ import annotations

import contextlib
import gc
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pycuda", reason="no PyCUDA here: make test-gpu has it")

from engines.backend import EngineFile
from engines.definition import CascadeDefinition, load_definition
from engines.errors import DeviceError, EngineError, InferenceError
from tests.gpu.backend import stub_tensorrt
from tests.gpu.backend.fake_driver import LAUNCH_FAILED, FakeDriver
from tests.gpu.backend.stub_compiler import StubCompiler
from tests.support.tiny_cascade import frame_with, mask_of, write_tiny_cascade

FRAMES = [frame_with({1: [(5 + 9 * number, 4, 30, 20)]}) for number in range(3)]
EVERY = np.arange(len(FRAMES), dtype=np.int64)

OPENING = [
    "cuInit",
    "cuDeviceGet",
    "cuDeviceGetName",
    "cuDevicePrimaryCtxRetain",
    "cuCtxPushCurrent",
    "cuCtxPopCurrent",
    "cuMemAlloc",
    "cuMemHostAlloc",
    "cuStreamCreate",
    "cuEventCreate",
    "cuStreamSynchronize",
    "cuMemcpyHtoDAsync",
    "cuMemcpyDtoHAsync",
    "cuLaunchHostFunc",
]
RECORDED = "cuGraphDestroy"
CAPTURE = ["cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiateWithFlags", "cuGraphUpload"]
RUNNING = ["cuMemcpyHtoDAsync", "cuGraphLaunch", "cuEventRecord", "cuEventSynchronize"]
PROBING = ["cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync", "cuStreamSynchronize"]
CLOSING = ["cuMemFree", "cuMemFreeHost", "cuStreamSynchronize", "cuStreamDestroy", "cuEventDestroy"]
CLOSING += ["cuGraphExecDestroy", "cuDevicePrimaryCtxRelease", "cuCtxGetCurrent", "cuCtxPushCurrent", "cuCtxPopCurrent"]
CONTEXT = ["cuCtxPushCurrent", "cuCtxPopCurrent"]


@pytest.fixture(scope="module")
def definition(tmp_path_factory: pytest.TempPathFactory) -> CascadeDefinition:
    return load_definition(write_tiny_cascade(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def engines(definition: CascadeDefinition, tmp_path_factory: pytest.TempPathFactory) -> list[EngineFile]:
    folder = tmp_path_factory.mktemp("engines")
    stages = (definition.stages[0], definition.stages[2])
    return [engine for each in stages for engine in StubCompiler().build(each, definition, (1, 2), "f32", folder)]


@pytest.fixture
def open_runtime(driver: FakeDriver, definition: CascadeDefinition, engines: list[EngineFile]) -> Any:
    return lambda slots=2: StubCompiler().open(definition, engines, slots=slots, max_frames=2)


def inspect(slot: Any) -> None:
    """All that is done with a slot, with what is right checked."""
    index = np.array([1, 0, 1], np.int64)
    with slot:
        slot.load(FRAMES[:2])
        slot.gate(index)
        for number, mask in zip(index, slot.segment(0, index, 0.5), strict=True):
            np.testing.assert_array_equal(mask, mask_of(FRAMES[number], 1).T)


def work_with(runtime: Any) -> None:
    for slot in runtime.slots:
        inspect(slot)
    runtime.probe()


def no_trace(driver: FakeDriver) -> None:
    """Nothing is held any more, and TensorRT had no reason to complain."""
    gc.collect()
    assert not any(driver.counts().held), driver.counts()
    assert stub_tensorrt.violations == []


def pieces(driver: FakeDriver) -> list[str]:
    """What is still held, each piece by its kind."""
    gc.collect()
    counts = asdict(driver.counts())
    bytes_and_history = ("device_bytes", "host_bytes", "allocations")
    return [kind for kind, count in counts.items() if kind not in bytes_and_history for _ in range(count)]


def called(driver: FakeDriver, open_runtime: Any) -> tuple[Counter[str], Counter[str], Counter[str], Counter[str]]:
    """How often each call comes while a runtime is opened, inspects, is probed, and is closed."""
    counted = []
    with contextlib.closing(open_runtime()) as runtime:
        counted.append(driver.calls())
        for slot in runtime.slots:
            inspect(slot)
        counted.append(driver.calls())
        runtime.probe()
        counted.append(driver.calls())
    counted.append(driver.calls())
    first, second, third, fourth = counted
    return first, second - first, third - second, fourth - third


def test_these_tests_know_every_call(driver: FakeDriver, open_runtime: Any) -> None:
    opening, running, probing, closing = called(driver, open_runtime)
    assert set(opening) == {*OPENING, *CAPTURE, RECORDED}
    assert set(running) == {*RUNNING, *CONTEXT}
    assert set(probing) == {*PROBING, *CONTEXT}
    assert set(closing) == set(CLOSING)
    no_trace(driver)


@pytest.mark.parametrize("lasts", [False, True])
@pytest.mark.parametrize("call", OPENING)
def test_a_call_that_fails_while_engines_are_opened(
    driver: FakeDriver, open_runtime: Any, call: str, *, lasts: bool
) -> None:
    times = called(driver, open_runtime)[0][call]
    for number in sorted({1, 2, times // 2, times} - {0}):
        if number > times:
            continue
        driver.reset()
        driver.fail(call, number, LAUNCH_FAILED, lasts=lasts)
        told = ""
        with contextlib.ExitStack() as opened:
            try:
                runtime = opened.enter_context(contextlib.closing(open_runtime()))
            except DeviceError as error:
                told = str(error)
            except EngineError as error:
                # What TensorRT does not launch is the engine's fault for all that can be known.
                told = str(error) if call == "cuLaunchHostFunc" else ""
                assert told
            else:
                # A copy or a launch that is refused while it is recorded costs the graph, and nothing else.
                assert not lasts
                assert any(each.refusal for slot in runtime.slots for each in slot.engines)
                work_with(runtime)
        assert "\n" not in told
        if not lasts:
            no_trace(driver)
    gc.collect()


@pytest.mark.parametrize("call", CAPTURE)
def test_a_recording_that_fails_costs_the_graph_and_nothing_else(
    driver: FakeDriver, open_runtime: Any, call: str
) -> None:
    driver.fail(call, 2, code=900)
    with contextlib.closing(open_runtime()) as runtime:
        # The second turn of the first engine.
        refused = [each for each in runtime.slots[0].engines if each.refusal is not None]
        assert [(each.key, each.batch_size, each.graphs) for each in refused] == [("gate", 1, [])]
        work_with(runtime)
    no_trace(driver)


@pytest.mark.parametrize("call", [*CAPTURE, RECORDED])
def test_a_device_that_is_lost_while_runs_are_recorded(driver: FakeDriver, open_runtime: Any, call: str) -> None:
    driver.fail(call, 2, LAUNCH_FAILED, lasts=True)
    with pytest.raises(DeviceError, match="unspecified launch failure"):
        open_runtime()
    gc.collect()
    assert stub_tensorrt.violations == []


def test_a_recording_that_is_not_destroyed_costs_itself_and_nothing_else(driver: FakeDriver, open_runtime: Any) -> None:
    driver.fail(RECORDED)
    with contextlib.closing(open_runtime()) as runtime:
        assert {each.refusal for each in runtime.captures} == {None}
        work_with(runtime)
    assert pieces(driver) == ["graphs"]
    assert stub_tensorrt.violations == []


@pytest.mark.parametrize("call", RUNNING)
def test_a_call_that_fails_once_fails_this_batch(driver: FakeDriver, open_runtime: Any, call: str) -> None:
    times = called(driver, open_runtime)[1][call]
    for number in sorted({1, times // 2, times}):
        driver.reset()
        with contextlib.closing(open_runtime()) as runtime:
            driver.fail(call, number)
            with pytest.raises(InferenceError, match=f"failed: {call}"):
                work_with(runtime)
            work_with(runtime)
        no_trace(driver)


@pytest.mark.parametrize("call", [*RUNNING, *CONTEXT])
def test_a_call_that_fails_for_good_loses_the_device(driver: FakeDriver, open_runtime: Any, call: str) -> None:
    with contextlib.closing(open_runtime()) as runtime:
        driver.fail(call, 1, LAUNCH_FAILED, lasts=True)
        # The context is left last, and what was lost then is told by the next call.
        with pytest.raises(DeviceError, match=r"the GPU does not answer any more: .*(unspecified launch f|LAUNCH_F)"):
            work_with(runtime)
        for slot in runtime.slots:
            with pytest.raises(DeviceError, match="does not answer any more"):
                inspect(slot)
        with pytest.raises(DeviceError, match="does not answer any more"):
            runtime.probe()


def test_a_context_that_cannot_be_made_current_is_a_lost_device(driver: FakeDriver, open_runtime: Any) -> None:
    with contextlib.closing(open_runtime()) as runtime:
        driver.fail("cuCtxPushCurrent")
        with pytest.raises(DeviceError, match="does not answer any more: cuCtxPushCurrent failed"):
            inspect(runtime.slots[0])
        with pytest.raises(DeviceError, match="does not answer any more"):
            runtime.probe()
    no_trace(driver)


@pytest.mark.parametrize("use", [work_with, lambda runtime: runtime.probe()], ids=["slot", "probe"])
def test_a_context_that_is_not_left_stays_and_spoils_nothing(driver: FakeDriver, open_runtime: Any, use: Any) -> None:
    with contextlib.closing(open_runtime()) as runtime:
        driver.fail("cuCtxPopCurrent")
        use(runtime)
        assert driver.counts().current_contexts == 1
        work_with(runtime)
    assert set(pieces(driver)) <= {"current_contexts"}
    assert stub_tensorrt.violations == []


def test_an_error_after_which_the_context_does_not_answer_loses_the_device(
    driver: FakeDriver, open_runtime: Any
) -> None:
    with contextlib.closing(open_runtime()) as runtime:
        driver.fail("cuGraphLaunch")
        driver.fail("cuCtxSynchronize")
        with pytest.raises(DeviceError, match=r"gate: cuGraphLaunch failed: .*; then cuCtxSynchronize failed: "):
            work_with(runtime)
    no_trace(driver)


def test_work_that_fails_on_the_device_loses_it(driver: FakeDriver, open_runtime: Any) -> None:
    with contextlib.closing(open_runtime()) as runtime:
        inspect(runtime.slots[0])
        driver.fail_work(3)
        with pytest.raises(DeviceError, match=r"gate: .*unspecified launch failure"):
            inspect(runtime.slots[1])
        for slot in runtime.slots:
            with pytest.raises(DeviceError, match="does not answer any more"):
                slot.__enter__()
        with pytest.raises(DeviceError, match="does not answer any more"):
            runtime.probe()


def test_a_thread_that_was_within_a_slot_when_the_device_was_lost_ends_in_peace(
    driver: FakeDriver, open_runtime: Any
) -> None:
    """PyCUDA ends the whole process with a thread in which it thinks that a context is current."""
    told: list[BaseException] = []

    def work() -> None:
        try:
            inspect(runtime.slots[0])
        except DeviceError as error:
            told.append(error)

    with contextlib.closing(open_runtime()) as runtime:
        driver.fail_work()
        thread = Thread(target=work, name="slot")
        thread.start()
        thread.join()
    assert len(told) == 1


@pytest.mark.parametrize(
    ("call", "lasts"),
    [*((call, lasts) for call in PROBING for lasts in (False, True)), ("cuCtxPushCurrent", True)],
)
def test_a_probe_that_fails_is_the_device_s(driver: FakeDriver, open_runtime: Any, call: str, *, lasts: bool) -> None:
    with contextlib.closing(open_runtime()) as runtime:
        driver.fail(call, lasts=lasts)
        with pytest.raises(DeviceError, match="does not answer any more"):
            runtime.probe()
        with pytest.raises(DeviceError, match="does not answer any more"):
            inspect(runtime.slots[0])
    if not lasts:
        no_trace(driver)


def test_a_device_that_is_lost_as_a_probe_ends_is_told_by_the_next_one(driver: FakeDriver, open_runtime: Any) -> None:
    with contextlib.closing(open_runtime()) as runtime:
        driver.fail("cuCtxPopCurrent", 1, LAUNCH_FAILED, lasts=True)
        runtime.probe()
        with pytest.raises(DeviceError, match="does not answer any more"):
            runtime.probe()


@pytest.mark.parametrize("lasts", [False, True])
@pytest.mark.parametrize("call", CLOSING)
def test_closing_ends_whatever_fails(driver: FakeDriver, open_runtime: Any, call: str, *, lasts: bool) -> None:
    runtime = open_runtime()
    work_with(runtime)
    driver.fail(call, 1, LAUNCH_FAILED, lasts=lasts)
    runtime.close()
    # What was refused once may stay, and nothing else.
    assert lasts or call == "cuCtxPushCurrent" or len(pieces(driver)) <= 1
    gc.collect()
    # Without a context nothing can be freed in order; on a lost device nothing is there to be freed.
    assert stub_tensorrt.violations == [] or call == "cuCtxPushCurrent"


def test_too_little_memory_names_what_to_lower(driver: FakeDriver, open_runtime: Any) -> None:
    with contextlib.closing(open_runtime()):
        needed = driver.counts().device_bytes
    for share in (0.02, 0.3, 0.5, 0.7, 0.99):
        driver.reset()
        driver.limit(device=int(needed * share))
        with pytest.raises(DeviceError, match=r"lower batch\.max_frames or engine\.slots \(cuMemAlloc failed: out of"):
            open_runtime()
        no_trace(driver)
    driver.limit(device=needed)
    open_runtime().close()


def test_too_little_page_locked_memory_names_what_to_lower(driver: FakeDriver, open_runtime: Any) -> None:
    with contextlib.closing(open_runtime()):
        needed = driver.counts().host_bytes
    for share in (0.002, 0.3, 0.7, 0.99):
        driver.reset()
        driver.limit(host=int(needed * share))
        with pytest.raises(DeviceError, match=r"lower batch\.max_frames or engine\.slots \(cuMemHostAlloc failed: out"):
            open_runtime()
        no_trace(driver)
    driver.limit(host=needed)
    open_runtime().close()


@pytest.mark.parametrize(
    ("told", "kind", "message"),
    [
        (
            "Requested amount of GPU memory (1073741824 bytes) is not there: out of memory",
            DeviceError,
            "lower",
        ),
        ("the weights are not there", EngineError, r"cannot be opened for batches of 1: the weights are not there"),
    ],
)
def test_an_execution_context_that_tensorrt_refuses(
    driver: FakeDriver,
    open_runtime: Any,
    monkeypatch: pytest.MonkeyPatch,
    told: str,
    kind: type[Exception],
    message: str,
) -> None:
    def refuse(self: stub_tensorrt.Engine, strategy: object) -> None:
        self.logger.log(stub_tensorrt.ILogger.ERROR, told)

    monkeypatch.setattr(stub_tensorrt.Engine, "create_execution_context", refuse)
    with pytest.raises(kind, match=message):
        open_runtime()
    no_trace(driver)


def test_a_tensorrt_that_does_not_start_is_a_device_error(
    driver: FakeDriver, open_runtime: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def runtime(logger: Any) -> Any:
        logger.log(stub_tensorrt.ILogger.ERROR, "CUDA initialization failure with error: 35\nand more")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(stub_tensorrt, "Runtime", runtime)
    with pytest.raises(DeviceError, match=r"TensorRT does not start on this GPU: CUDA initialization .* error: 35$"):
        open_runtime()
    no_trace(driver)


def test_a_run_that_tensorrt_refuses_fails_this_batch(
    driver: FakeDriver, open_runtime: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(stub_tensorrt.settings, "capturable", False)
    with contextlib.closing(open_runtime()) as runtime:
        driver.fail("cuLaunchHostFunc")
        with pytest.raises(InferenceError, match="gate failed: the kernel was not launched"):
            work_with(runtime)
        work_with(runtime)
    no_trace(driver)


def test_an_interrupt_within_a_run_leaves_the_slot_usable(
    driver: FakeDriver, open_runtime: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.closing(open_runtime()) as runtime:
        with monkeypatch.context() as patch:
            patch.setattr("engines.tensorrt.slot.TensorRTSlot._finished", _interrupted)
            with pytest.raises(KeyboardInterrupt):
                inspect(runtime.slots[0])
        work_with(runtime)
    no_trace(driver)


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_engines_that_are_missing_leave_nothing_behind(
    driver: FakeDriver, definition: CascadeDefinition, engines: list[EngineFile], tmp_path: Path
) -> None:
    gone = EngineFile("classifier", (1, 2), "f32", tmp_path / "gone.plan")
    with pytest.raises(EngineError, match=r"gone\.plan: cannot be read: No such file"):
        StubCompiler().open(definition, [*engines, gone], slots=1, max_frames=2)
    no_trace(driver)
