"""Checks of this folder fail when what they guard is broken.

The code is broken in memory and the check is run on it, both in a fork of this process: PyCUDA ends the process for
some of these mistakes, and what others leave behind is nobody else's then.
"""

from __future__ import annotations

import faulthandler
import inspect
import os
import re
import select
import signal
import textwrap
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import count
from pkgutil import resolve_name
from typing import Any

import pytest

pytest.importorskip("pycuda", reason="no PyCUDA here: make test-gpu has it")

from engines.backend import EngineFile
from engines.definition import CascadeDefinition, load_definition
from tests.gpu.backend import stub_tensorrt, test_faults, test_runtime
from tests.gpu.backend.fake_driver import FakeDriver
from tests.gpu.backend.stub_compiler import StubCompiler
from tests.support.tiny_cascade import write_tiny_cascade

# The child uses no thread of its parent's: whatever runs in it was made in it.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

SECONDS = 100

HOST_ARRAYS = ("frames", "index", "threshold", "output", "index", "threshold", "output")
DEVICE_BUFFERS = ("frames", "index", "threshold", "output", "activations")
"""What a slot takes, in its order."""


@dataclass(frozen=True)
class Bench:
    """What the checks are run on: engines of every stage, and the few that the tests of failing calls open."""

    driver: FakeDriver
    definition: CascadeDefinition
    engines: list[EngineFile]
    few: list[EngineFile]

    def open_few(self, slots: int = 2) -> Any:
        return StubCompiler().open(self.definition, self.few, slots=slots, max_frames=2)


Break = Callable[[], None]
Check = Callable[[Bench], None]


def without(owner: str, name: str, line: str, instead: str = "pass") -> Break:
    """Put something else in the place of a line of a method."""

    def apply() -> None:
        kind = resolve_name(f"engines.tensorrt.{owner}")
        function = getattr(kind, name)
        source = textwrap.dedent(inspect.getsource(function))
        assert source.count(line) == 1, f"{name} has not one {line!r} any more: break what guards the same now"
        made: dict[str, Any] = {}
        exec("from __future__ import annotations\n" + source.replace(line, instead), function.__globals__, made)
        setattr(kind, name, made[name])

    return apply


def sharing(name: str, per_slot: int, number: int) -> Break:
    """Give the second slot the first one's memory: the piece that a slot takes as the given one by this function."""

    def apply() -> None:
        module = import_module("engines.tensorrt.slot")
        take: Callable[..., AbstractContextManager[Any]] = getattr(module, name)
        calls = count()
        kept = []

        @contextmanager
        def shared(*arguments: Any) -> Iterator[Any]:
            call = next(calls)
            with take(*arguments) as piece:
                if call == number:
                    kept.append(piece)
                yield kept[0] if call == number + per_slot else piece

        setattr(module, name, shared)

    return apply


def of_runtime(check: Callable[..., None], *others: Callable[[Bench], Any]) -> Check:
    """A test of ``test_runtime.py`` with what its fixture says at the end; ``others`` are its further arguments."""

    def run(bench: Bench) -> None:
        with test_runtime.opening(bench.driver, bench.definition, bench.engines) as open_runtime:
            check(open_runtime, *(other(bench) for other in others))

    return run


def of_faults(check: Callable[..., None], *arguments: Any, **named: Any) -> Check:
    """A test of ``test_faults.py``."""
    return lambda bench: check(bench.driver, bench.open_few, *arguments, **named)


def driver_of(bench: Bench) -> FakeDriver:
    return bench.driver


def in_the_midst(bench: Bench) -> None:
    check = test_runtime.test_slots_that_run_in_the_midst_of_each_other_never_mix
    with (
        test_runtime.opening(bench.driver, bench.definition, bench.engines) as open_runtime,
        pytest.MonkeyPatch.context() as patch,
    ):
        check(open_runtime, patch)


MASKS = of_runtime(test_runtime.test_frames_are_uploaded_once_for_all_stages, driver_of)
CURRENT = of_runtime(test_runtime.test_the_context_is_current_only_within_a_slot, driver_of)
OPENING_FAILS = test_faults.test_a_call_that_fails_while_engines_are_opened
FOR_GOOD = test_faults.test_a_call_that_fails_for_good_loses_the_device

GUARDS: dict[str, tuple[Break, Check, str]] = {
    "the index is not padded": (
        without("slot:TensorRTSlot", "_launch", "turn.index[: engine.batch_size] = index[chunk.start]"),
        of_runtime(test_runtime.test_padding_repeats_a_frame_that_is_there),
        "DeviceError: .*\n.*no frame at",
    ),
    "a slot leaves the context current": (
        without("slot:TensorRTSlot", "__exit__", "self._context.pop()"),
        CURRENT,
        "AssertionError: ",
    ),
    "the probe leaves the context current": (
        without("runtime:TensorRTRuntime", "probe", "self._context.pop()"),
        CURRENT,
        "AssertionError: ",
    ),
    "a traceback keeps execution contexts": (
        without("runtime:TensorRTRuntime", "__init__", "_forget_frames(error)"),
        of_faults(OPENING_FAILS, "cuLaunchHostFunc", lasts=False),
        "AssertionError: .*(\n.*)*ExecutionContext outlived the context",
    ),
    "an error for good is taken for one of this batch": (
        without("context:DeviceContext", "judge", "cuda.Context.synchronize()"),
        of_faults(FOR_GOOD, "cuGraphLaunch"),
        "InferenceError: gate failed: cuGraphLaunch failed",
    ),
    "an error of this batch is taken for one for good": (
        without("context:DeviceContext", "judge", "return InferenceError(", "return self.loses("),
        of_faults(test_faults.test_a_call_that_fails_once_fails_this_batch, "cuGraphLaunch"),
        "DeviceError: the GPU does not answer any more: gate failed",
    ),
    "that the device was lost is forgotten": (
        without("context:DeviceContext", "check", "raise DeviceError(self._lost)"),
        of_faults(test_faults.test_a_probe_that_fails_is_the_device_s, "cuMemcpyHtoDAsync", lasts=False),
        "Failed: DID NOT RAISE",
    ),
    "a lost context is not abandoned": (
        without("runtime:TensorRTRuntime", "close", "self._context.abandon()"),
        of_faults(test_faults.test_work_that_fails_on_the_device_loses_it),
        "ended by SIGABRT",
    ),
    "a failed opening is not waited for": (
        without("runtime:TensorRTRuntime", "__init__", "cuda.Context.synchronize()"),
        of_faults(OPENING_FAILS, "cuStreamSynchronize", lasts=False),
        "AssertionError: .*(\n.*)*its execution context is gone",
    ),
    "a closing is not waited for": (
        without("slot:TensorRTSlot", "_let_go", "self._stream.synchronize()"),
        of_runtime(test_runtime.test_closing_waits_for_masks_that_nobody_read),
        "AssertionError: .*abandoned_work=[1-9]",
    ),
    "a result is read without a wait": (
        without("slot:TensorRTSlot", "_finished", "turn.done.synchronize()"),
        MASKS,
        "AssertionError: \nNot equal to tolerance",
    ),
    "nothing is recorded that can be waited for": (
        without("slot:TensorRTSlot", "_launch", "turn.done.record(self._stream)"),
        MASKS,
        "AssertionError: \nNot equal to tolerance",
    ),
    "a turn is taken before it was read": (
        without("slot:TensorRTSlot", "_run", "len(launched) == TURNS", "len(launched) > TURNS"),
        MASKS,
        "AssertionError: \n",
    ),
    "a profile is used before the stream has got there": (
        without("slot:TensorRTSlot", "_bind", "self._stream.synchronize()"),
        MASKS,
        "EngineError: (.*\n)*a shape was set before the profile was switched to",
    ),
    "the probe does not wait": (
        without("runtime:TensorRTRuntime", "probe", "self._probe_stream.synchronize()"),
        CURRENT,
        "DeviceError: .*it does not give back what it was given",
    ),
    "a copy goes beyond the output on the device": (
        without("slot:TensorRTSlot", "__init__", "on_device(output_bytes)", "on_device(output_bytes - 1)"),
        MASKS,
        "DeviceError: .*cuMemcpyDtoHAsync failed",
    ),
    "a copy goes beyond the index on the device": (
        without(
            "slot:TensorRTSlot", "__init__", "on_device(arrays[0][0].nbytes)", "on_device(arrays[0][0].nbytes - 1)"
        ),
        MASKS,
        "DeviceError: .*cuMemcpyHtoDAsync failed",
    ),
    "a run reads beyond the frames on the device": (
        without(
            "slot:TensorRTSlot", "__init__", "on_device(self._frames.nbytes)", "on_device(self._frames.nbytes - 1)"
        ),
        MASKS,
        "DeviceError: .*\n.*bytes of device memory at",
    ),
    "a run has too little memory for activations": (
        without("slot:TensorRTSlot", "__init__", "on_device(activations)", "on_device(activations - 1)"),
        MASKS,
        "DeviceError: .*\n.*bytes of device memory at",
    ),
    **{
        f"two slots share one {name} on the device": (
            sharing("on_device", 5, number),
            in_the_midst,
            "(Assertion|Device)Error: ",
        )
        for number, name in enumerate(DEVICE_BUFFERS)
    },
    **{
        f"two slots share one {name} on the host ({number})": (
            sharing("page_locked", 7, number),
            in_the_midst,
            "AssertionError: ",
        )
        for number, name in enumerate(HOST_ARRAYS)
    },
}


@pytest.fixture(scope="module")
def definition(tmp_path_factory: pytest.TempPathFactory) -> CascadeDefinition:
    return load_definition(write_tiny_cascade(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def built(
    definition: CascadeDefinition, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[EngineFile], list[EngineFile]]:
    every, few = tmp_path_factory.mktemp("every"), tmp_path_factory.mktemp("few")
    compiler, stages = StubCompiler(), definition.stages
    return (
        [engine for stage in stages[:3] for engine in compiler.build(stage, definition, (1, 2, 4, 8), "f32", every)],
        [
            engine
            for stage in (stages[0], stages[2])
            for engine in compiler.build(stage, definition, (1, 2), "f32", few)
        ],
    )


@pytest.mark.parametrize("broken", GUARDS)
def test_a_check_fails_where(
    driver: FakeDriver,
    definition: CascadeDefinition,
    built: tuple[list[EngineFile], list[EngineFile]],
    broken: str,
) -> None:
    bench = Bench(driver, definition, *built)
    breaks, check, told = GUARDS[broken]
    found = in_a_fork(lambda: said(bench, breaks, check))
    assert re.match(told, found), found


def said(bench: Bench, breaks: Break, check: Check) -> str:
    """What the check says of the broken code, and the stand-in for TensorRT; it must have nothing to say before."""
    try:
        check(bench)
    except BaseException as error:  # noqa: BLE001 - a failed pytest.raises is none of Exception
        return f"without anything broken: {type(error).__name__}: {error}"
    bench.driver.reset()
    breaks()
    lines = ["nothing"]
    try:
        check(bench)
    except BaseException as error:  # noqa: BLE001
        lines = [f"{type(error).__name__}: {error}"]
    return "\n".join([*lines, *stub_tensorrt.violations])


def in_a_fork(work: Callable[[], str]) -> str:
    """What ``work`` returns in a child of this process, or how the child ended."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        # Nothing of pytest's may run here, and that the process ends is what some checks are for.
        faulthandler.disable()
        try:
            os.write(writing, work().encode()[: select.PIPE_BUF])
        finally:
            os._exit(0)
    os.close(writing)
    ready, _, _ = select.select([reading], [], [], SECONDS)
    found = os.read(reading, select.PIPE_BUF) if ready else b""
    os.close(reading)
    if not ready:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return f"ended by {signal.Signals(os.WTERMSIG(status)).name}"
    return found.decode()
