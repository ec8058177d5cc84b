"""The parts of ``verify-gpu`` on the processor's backend, and on runtimes that do what a part is there to notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from engines.backend import EngineFile, Index, Runtime, Scores, Slot
from engines.definition import CascadeDefinition
from engines.errors import DeviceError
from engines.images import Frame, ImageLimits, decode
from engines.openvino.compiler import OpenVINOCompiler
from engines.openvino.runtime import OpenVINORuntime
from engines.rle import Mask
from engines.verification.cascade_parts import MOST_LEFT_BYTES, open_again_and_again, run_cascade, run_slots
from engines.verification.cuda_parts import find_leaks, look_at_graphs
from engines.verification.decoder import compare
from engines.verification.opening import Bench, open_bench
from engines.verification.parts import run_part
from engines.verification.report import Plan, SkippedError
from engines.verification.stages import compare_engines, time_stages
from tests.support.tiny_cascade import write_tiny_cascade


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("verification")
    write_tiny_cascade(folder / "tiny")
    plan = Plan(
        cascade=folder / "tiny", directory=folder, backend="openvino", max_frames=4, slots=2, seconds=0.01, opens=3
    )
    built = run_part("build", plan)
    assert (built.outcome, len(built.figures)) == ("passed", 6), built.detail
    return plan


@pytest.fixture(scope="module")
def bench(plan: Plan) -> Bench:
    return open_bench(plan)


class Wrapped:
    """A slot that passes everything on, save what a subclass changes."""

    def __init__(self, slot: Slot, number: int) -> None:
        self._slot = slot
        self.number = number

    def __getattr__(self, name: str) -> Any:
        return getattr(self._slot, name)

    def __enter__(self) -> Wrapped:
        self._slot.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def gate(self, index: Index) -> Scores:
        return self._slot.gate(index)

    def segment(self, class_number: int, index: Index, threshold: float) -> Iterator[Mask]:
        return self._slot.segment(class_number, index, threshold)


class Off(Wrapped):
    def gate(self, index: Index) -> Scores:
        return self._slot.gate(index) * np.float32(0.5)


class Mixing(Wrapped):
    """Its second slot finds a pixel more."""

    def segment(self, class_number: int, index: Index, threshold: float) -> Iterator[Mask]:
        for mask in self._slot.segment(class_number, index, threshold):
            if self.number == 1:
                mask[0, 0] ^= 1
            yield mask


class Failing(Wrapped):
    def gate(self, index: Index) -> Scores:
        raise DeviceError("the GPU does not answer any more: CUDA_ERROR_ILLEGAL_ADDRESS")


def with_slots(bench: Bench, kind: Callable[[Slot, int], Any]) -> Bench:
    class Compiler(OpenVINOCompiler):
        def open(
            self,
            definition: CascadeDefinition,
            engines: Sequence[EngineFile],
            *,
            slots: int,
            max_frames: int,
            threads: int | None = None,
        ) -> OpenVINORuntime:
            runtime = super().open(definition, engines, slots=slots, max_frames=max_frames, threads=threads)
            runtime.slots = tuple(kind(slot, number) for number, slot in enumerate(runtime.slots))
            return runtime

    return replace(bench, compiler=Compiler())


def test_engines_that_agree_pass(bench: Bench) -> None:
    found = compare_engines(bench)
    assert found.problems == []
    assert {row["stage"] for row in found.figures} == {stage.key for stage in bench.definition.stages}


def test_an_engine_that_disagrees_is_named_and_hides_no_other(bench: Bench) -> None:
    found = compare_engines(with_slots(bench, Off))
    assert len(found.problems) == 1
    assert found.problems[0].startswith("gate at batch size 1: a score is off by ")
    assert len(found.figures) == len(bench.definition.stages)


def test_every_stage_is_timed_at_every_batch_size(bench: Bench) -> None:
    rows = time_stages(bench).figures
    assert len(rows) == len(bench.definition.stages) * len(bench.batch_sizes)
    for row in rows:
        assert 0 < float(row["p50_ms"] or 0) <= float(row["p95_ms"] or 0)
        assert float(row["frames_per_s"] or 0) > 0


def test_the_cascade_is_timed_at_both_defect_rates(bench: Bench) -> None:
    rows = run_cascade(bench).figures
    assert [row["defective"] for row in rows] == [0.05, 0.5]
    # A hundred frames, of which the tiny cascade finds every defective one.
    assert [row["found_defective"] for row in rows] == [5, 50]


def test_slots_that_find_the_same_pass(bench: Bench) -> None:
    found = run_slots(bench)
    assert list(found.problems) == []
    assert [row["slots_at_work"] for row in found.figures] == [1, 2]


def test_slots_that_mix_are_noticed(bench: Bench) -> None:
    found = run_slots(with_slots(bench, Mixing))
    assert any("find something else than one alone" in problem for problem in found.problems)


def test_a_device_that_fails_at_work_fails_the_part(plan: Plan, bench: Bench) -> None:
    failing = with_slots(bench, Failing)
    part = run_part("cascade", plan, lambda _: failing.compiler)
    assert part.outcome == "failed"
    assert "CUDA_ERROR_ILLEGAL_ADDRESS" in part.detail


def test_memory_that_stays_is_a_leak(bench: Bench) -> None:
    taken = iter(range(0, 10**9, MOST_LEFT_BYTES // 2))
    found = open_again_and_again(bench, lambda: next(taken))
    assert len(found.figures) == bench.plan.opens + 1
    assert any("openings left" in problem for problem in found.problems)


def test_memory_that_comes_back_is_none(bench: Bench) -> None:
    opened: list[bool] = []

    def in_use() -> int:
        # Asked while open, and again once closed.
        opened.append(not opened or not opened[-1])
        return 500_000_000 if opened[-1] else 1_000_000

    assert list(open_again_and_again(bench, in_use).problems) == []


def test_a_rehearsal_looks_at_the_memory_of_the_process(bench: Bench) -> None:
    assert all(int(row["closed_bytes"] or 0) > 1_000_000 for row in find_leaks(bench).figures)


@pytest.fixture
def jpegs() -> list[bytes]:
    pictures = np.random.default_rng(2).integers(0, 256, (3, 40, 60), dtype=np.uint8)
    return [cv2.imencode(".jpg", picture)[1].tobytes() for picture in pictures]


@pytest.mark.parametrize(("off", "said"), [(0, None), (2, None), (3, "a pixel is off by 3 grey levels, allowed are 2")])
def test_frames_of_the_decoder_may_differ_by_two_levels(jpegs: list[bytes], off: int, said: str | None) -> None:
    def decoder(value: bytes, width: int, height: int) -> Frame:
        frame = decode(value, limits=ImageLimits(min_pixels=1))
        assert frame.shape == (height, width)
        changed = frame.copy()
        level = int(frame[5, 7])
        changed[5, 7] = level + off if level < 128 else level - off
        return changed

    found = compare(jpegs, decoder, 0.01)
    assert list(found.problems) == ([] if said is None else [said])
    assert found.figures[0]["share_of_pixels_off"] == (0 if off == 0 else 1 / 2400)


def test_frames_that_the_decoder_leaves_are_a_problem(jpegs: list[bytes]) -> None:
    found = compare(jpegs, lambda value, width, height: None, 0.01)
    assert list(found.problems) == ["3 of 3 frames were not decoded"]


@dataclass(frozen=True)
class Captured:
    stage: str
    batch_size: int
    refusal: str | None


def test_runs_that_are_no_graphs_are_listed_with_their_reason(bench: Bench) -> None:
    class Compiler(OpenVINOCompiler):
        def open(self, *arguments: Any, **named: Any) -> Runtime:  # type: ignore[override]
            runtime: Any = super().open(*arguments, **named)
            runtime.captures = (Captured("gate", 1, None), Captured("gate", 2, "it synchronises"))
            return runtime

    found = look_at_graphs(replace(bench, compiler=Compiler()))
    assert found.detail == "1 of 2 runs are graphs"
    assert [row["reason"] for row in found.figures] == [None, "it synchronises"]
    with pytest.raises(SkippedError, match="has no graphs"):
        look_at_graphs(bench)


def test_parts_without_engines_are_skipped_with_the_reason(plan: Plan, tmp_path: Path) -> None:
    part = run_part("parity", plan.model_copy(update={"directory": tmp_path}))
    assert part.outcome == "skipped"
    assert part.detail.startswith("no engines: there are no engines of cascade")


def test_a_build_that_fails_says_why(plan: Plan, tmp_path: Path) -> None:
    folder = write_tiny_cascade(tmp_path / "tiny")
    (folder / "gate.onnx").write_bytes(b"no model")
    part = run_part("build", plan.model_copy(update={"cascade": folder, "directory": tmp_path}))
    assert part.outcome == "failed"
    assert "gate.onnx" in part.detail


def test_a_defect_of_ours_is_a_failed_part(plan: Plan) -> None:
    def broken(_: Plan) -> Any:
        raise KeyError("lost")

    part = run_part("device", plan, broken)
    assert (part.outcome, part.detail) == ("failed", "internal error, please report it: KeyError: 'lost'")


def test_no_device_is_skipped_with_the_backend_s_own_line(plan: Plan) -> None:
    def none_here(_: Plan) -> Any:
        raise DeviceError("no NVIDIA driver: install one")

    part = run_part("device", plan, none_here)
    assert (part.outcome, part.detail) == ("skipped", "no NVIDIA driver: install one")
