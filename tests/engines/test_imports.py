"""What importing the service may and may not load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEVER = {"torch", "tensorrt", "pycuda", "onnx", "onnxruntime", "cuda", "nvidia"}

DEVICE_SIDE = {f"engines.tensorrt.{name}" for name in ("context", "graphs", "memory", "runtime", "slot")}
"""Imported once a GPU has been found, and by nothing that the others import."""


def modules_of(package: str) -> list[str]:
    names = []
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[-1] != "__main__":
            names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return [name for name in names if name not in DEVICE_SIDE]


@pytest.mark.parametrize(("package", "more"), [("engines", {"daemon", "kafka", "training"}), ("daemon", {"training"})])
def test_no_module_imports_what_its_room_must_not(package: str, more: set[str]) -> None:
    program = (
        f"import importlib, sys\nfor name in {modules_of(package)}: importlib.import_module(name)\nprint(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, cwd=ROOT, timeout=100, text=True
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded.isdisjoint(NEVER | more), loaded & (NEVER | more)


def test_opening_a_cascade_is_what_loads_openvino() -> None:
    """The commands that inspect nothing start without it."""
    program = "import engines.cascade, sys; print('openvino' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, cwd=ROOT, text=True)
    assert done.stdout.strip() == "False"
