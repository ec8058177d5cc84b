"""Running the parts: each in a process of its own, and what follows from how they end."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from engines import children
from engines.verification import runner
from engines.verification.parts import PARTS
from engines.verification.report import Outcome, PartName, PartReport, Plan, Report, report_schema
from engines.verification.runner import run_in_child, verify
from tests.support.tiny_cascade import write_tiny_cascade


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return Plan(cascade=write_tiny_cascade(tmp_path / "tiny"), directory=tmp_path, backend="openvino")


def outcomes(plan: Plan, **given: Outcome) -> Report:
    def run(part: PartName, _: Plan) -> PartReport:
        return PartReport(part=part, outcome=given.get(part, "passed"), detail="told", seconds=0.5)

    return verify(plan, run)


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({}, 0),
        ({"graphs": "skipped"}, 0),
        ({"device": "skipped"}, 5),
        ({"device": "failed"}, 1),
        ({"build": "failed"}, 4),
        ({"parity": "failed", "leaks": "failed"}, 4),
        ({"leaks": "failed"}, 1),
    ],
)
def test_the_exit_code_tells_what_went_wrong(plan: Plan, given: dict[str, Outcome], code: int) -> None:
    assert outcomes(plan, **given).exit_code() == code


def test_a_failing_part_hides_no_other(plan: Plan) -> None:
    report = outcomes(plan, build="failed", latency="failed")
    assert [part.part for part in report.parts] == list(PARTS)
    assert [part.part for part in report.parts if part.outcome == "passed"] == [
        part for part in PARTS if part not in {"build", "latency"}
    ]


def test_without_a_device_nothing_else_is_started(plan: Plan) -> None:
    started: list[PartName] = []

    def run(part: PartName, _: Plan) -> PartReport:
        started.append(part)
        return PartReport(part=part, outcome="skipped", detail="no NVIDIA driver", seconds=0)

    report = verify(plan, run)
    assert started == ["device"]
    assert {part.detail for part in report.parts[1:]} == {"no device"}


def test_a_report_is_what_its_schema_says(plan: Plan) -> None:
    validator = Draft202012Validator(report_schema())
    Draft202012Validator.check_schema(report_schema())
    document = outcomes(plan).model_dump(mode="json", by_alias=True)
    validator.validate(document)
    assert document["schema"] == "millwatch.verify-gpu/1"
    assert document["rehearsal"] is True
    assert not validator.is_valid({**document, "parts": [{"part": "guess"}]})


def test_a_part_runs_in_a_process_of_its_own(plan: Plan) -> None:
    part = run_in_child("device", plan)
    assert part.outcome == "passed"
    assert {"what": "batch sizes", "value": "1"} in part.figures


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("kill -SEGV $$", "its process ended without a report: SIGSEGV"),
        ("exit 3", "its process ended without a report: exit code 3"),
        ("exec sleep 600", "it did not end within 1 s"),
    ],
)
def test_a_part_that_crashes_or_hangs_is_a_failed_one(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setattr(runner.sys, "executable", str(program))
    part = run_in_child("parity", plan, limit_s=1 if "sleep" in script else 60)
    assert (part.outcome, part.detail) == ("failed", said)


def test_a_part_that_does_not_even_die_is_left_behind(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside the kernel's part of a driver no signal reaches a process."""
    immortal: list[subprocess.Popen[str]] = []
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nexec sleep 600\n", encoding="utf-8")
    program.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setattr(runner.sys, "executable", str(program))
        patch.setattr(children, "KILL_LIMIT_S", 0.2)
        patch.setattr(subprocess.Popen, "kill", lambda child: immortal.append(child))
        part = run_in_child("parity", plan, limit_s=1)
    assert (part.outcome, part.detail) == ("failed", "it did not end within 1 s")
    (child,) = immortal
    child.kill()
    child.wait()
