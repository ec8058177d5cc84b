"""The parts of ``verify-gpu`` on the GPU runtime over the fake driver: it is the parts that are looked at here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pycuda", reason="no PyCUDA here: make test-gpu has it")

from engines.verification.parts import ON_ENGINES, run_part
from engines.verification.report import PartReport, Plan
from tests.gpu.backend.fake_driver import FakeDriver
from tests.gpu.backend.stub_compiler import StubCompiler
from tests.support.tiny_cascade import write_tiny_cascade


@pytest.fixture
def plan(driver: FakeDriver, tmp_path: Path) -> Iterator[Plan]:
    plan = Plan(
        cascade=write_tiny_cascade(tmp_path / "tiny"), directory=tmp_path, max_frames=4, slots=2, seconds=0.01, opens=2
    )
    built = run(plan, "build")
    assert built.outcome == "passed", built.detail
    yield plan
    assert not any(driver.counts().held)


def run(plan: Plan, part: Any) -> PartReport:
    return run_part(part, plan, lambda _: StubCompiler())


def test_every_part_that_needs_engines_passes(plan: Plan) -> None:
    reports = {part: run(plan, part) for part in ON_ENGINES}
    assert {part: report.detail for part, report in reports.items() if report.outcome != "passed"} == {}
    assert {(row["stage"], row["batch"]) for row in reports["latency"].figures} >= {("gate", 1), ("segmenter-4", 4)}
    # Graphs are told of every stage at every batch size.
    assert len(reports["graphs"].figures) == 12


def test_memory_that_an_opening_leaves_is_noticed(
    plan: Plan, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although it goes with the context, which nobody but the part itself holds between two openings."""
    from cuda.bindings import driver as bindings

    from engines.tensorrt import slot

    kept = slot.on_device

    def leaking(size: int) -> AbstractContextManager[int]:
        assert not bindings.cuMemAlloc(1_000_000)[0]
        return kept(size)

    monkeypatch.setattr(slot, "on_device", leaking)
    report = run(plan, "leaks")
    assert report.outcome == "failed"
    assert "2 openings left 20000000 bytes behind" in report.detail
    driver.reset()
