"""``python -m engines.verification PART FILE``: one part, its plan on standard input, its report into the file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

from engines.verification.parts import run_part
from engines.verification.report import PartName, Plan

part, answer = sys.argv[1:]
report = run_part(cast(PartName, part), Plan.model_validate_json(sys.stdin.read()))
Path(answer).write_text(report.model_dump_json(), encoding="utf-8")
