"""``millwatch verify-gpu`` as a user runs it, on a machine without a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from engines.tensorrt.device import driver_present
from engines.verification.report import report_schema
from tests.support.tiny_cascade import write_tiny_cascade

ROOT = Path(__file__).parents[3]


def verify(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "daemon", "verify-gpu", "--cascade", "tiny", "--output", "engines", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=540)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tiny_cascade(tmp_path / "tiny")
    return tmp_path


def outcomes(report: Path) -> dict[str, str]:
    document = json.loads(report.read_text(encoding="utf-8"))
    Draft202012Validator(report_schema()).validate(document)
    return {part["part"]: part["outcome"] for part in document["parts"]}


@pytest.mark.skipif(driver_present(), reason="there is an NVIDIA driver here")
def test_without_a_gpu_every_part_is_skipped_and_the_code_is_5(folder: Path) -> None:
    done = verify(folder, "--json", "report.json")
    assert done.returncode == 5, done.stderr
    assert set(outcomes(folder / "report.json").values()) == {"skipped"}
    assert "no device" in done.stdout
    assert done.stderr == "verifying device\n"
    assert not (folder / "engines").exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_rehearsal_runs_every_part_and_says_what_it_is(folder: Path) -> None:
    done = verify(folder, "--rehearse", "--seconds", "0.01", "--opens", "2", "--json", "report.json")
    found = outcomes(folder / "report.json")
    # The memory of a process moves by more than a leak on a GPU would: what it says there is not asked here.
    found.pop("leaks")
    assert {part for part, outcome in found.items() if outcome != "passed"} <= {"graphs", "decoder"}, done.stdout
    assert "no figure above says anything of a GPU" in done.stdout
    for part in found:
        assert f"verifying {part}\n" in done.stderr


def test_a_file_that_cannot_be_written_is_found_out_first(folder: Path) -> None:
    done = verify(folder, "--json", "nowhere/report.json")
    assert done.returncode == 2
    assert done.stderr == "millwatch: nowhere/report.json: No such file or directory\n"


def test_a_cascade_that_is_none_is_a_wrong_argument(tmp_path: Path) -> None:
    done = verify(tmp_path)
    assert done.returncode == 2
    assert "cascade.yaml" in done.stderr


def test_its_schema_is_printed(folder: Path) -> None:
    command = [sys.executable, "-m", "daemon", "schema", "--verify-gpu"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=110)
    assert json.loads(done.stdout) == report_schema()
