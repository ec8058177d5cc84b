"""Running all parts, each in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from pydantic import ValidationError

from engines.children import hear_out
from engines.definition import load_definition
from engines.verification.parts import PARTS
from engines.verification.report import PartName, PartReport, Plan, Report

PART_LIMIT_S: Final = 900.0
"""After this a part counts as hung: a driver that does not answer may never do so."""

BUILD_LIMIT_S: Final = 7200.0

NO_DEVICE: Final = "no device"

RunPart = Callable[[PartName, Plan], PartReport]
Tell = Callable[[PartName], None]


def verify(plan: Plan, run: RunPart | None = None, tell: Tell | None = None) -> Report:
    """All parts, one after the other: without a device all but the first are skipped. ``tell`` hears what begins.

    Raises :class:`engines.errors.UsageError` for a wrong cascade, and nothing for whatever is wrong with the rest.
    """
    run = run or run_in_child
    definition = load_definition(plan.cascade)
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    found: list[PartReport] = []
    for part in PARTS:
        if found and found[0].outcome == "skipped":
            found.append(PartReport(part=part, outcome="skipped", detail=NO_DEVICE, seconds=0))
            continue
        if tell is not None:
            tell(part)
        found.append(run(part, plan))
    return Report(
        millwatch=_own_version(),
        started_at=started_at,
        cascade=definition.name,
        hash=definition.hash(),
        rehearsal=plan.backend == "openvino",
        parts=tuple(found),
    )


def run_in_child(part: PartName, plan: Plan, limit_s: float | None = None) -> PartReport:
    """Run one part in a process of its own; that it crashes or hangs becomes its report."""
    limit_s = limit_s or (BUILD_LIMIT_S if part == "build" else PART_LIMIT_S)
    started = time.monotonic()

    def failed(detail: str) -> PartReport:
        return PartReport(part=part, outcome="failed", detail=detail, seconds=time.monotonic() - started)

    with TemporaryDirectory(prefix="millwatch-verify-") as folder:
        # Not standard output: libraries write there as they like.
        answer = Path(folder) / "part.json"
        command = [sys.executable, "-m", "engines.verification", part, str(answer)]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
        try:
            hear_out(child, limit_s, plan.model_dump_json())
        except subprocess.TimeoutExpired:
            return failed(f"it did not end within {limit_s:.0f} s")
        try:
            return PartReport.model_validate_json(answer.read_bytes())
        except (OSError, ValidationError):
            return failed(f"its process ended without a report: {_ending(child.returncode)}")


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _own_version() -> str:
    try:
        return version("millwatch")
    except PackageNotFoundError:
        return "from source"
