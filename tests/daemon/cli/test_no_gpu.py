"""The commands that need the GPU's backend, on a machine without a driver and on one whose driver finds no GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.stub_driver import NO_DEVICE, build_driver
from tests.support.tiny_cascade import write_tiny_cascade

ROOT = Path(__file__).parents[3]

TENSORRT = ("--set", "engine.backend=tensorrt")
COMMANDS = {
    "check": ("check", "--offline", *TENSORRT),
    # Nothing listens there: that a device is missing is found before the broker is asked.
    "run": ("run", *TENSORRT, "--set", "kafka.bootstrap=127.0.0.1:9"),
    "build-engines": ("build-engines", "--backend", "tensorrt"),
}


def _no_driver(folder: Path) -> Path:
    # Also on a machine that has one: the loader takes this file, and it is no library.
    (folder / "libcuda.so.1").write_bytes(b"no library")
    return folder


def _no_device(folder: Path) -> Path:
    return build_driver(folder, NO_DEVICE)


def millwatch(arguments: tuple[str, ...], cascade: Path, driver: Path) -> subprocess.CompletedProcess[str]:
    settings = ("--set", f"cascade={cascade}", "--set", f"engine.directory={cascade / 'engines'}")
    return subprocess.run(
        [sys.executable, "-m", "daemon", *arguments, *settings],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
        cwd=ROOT,
        env=os.environ | {"LD_LIBRARY_PATH": str(driver), "COLUMNS": "400"},
    )


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("machine", "missing"),
    [
        (_no_driver, "no NVIDIA driver here: libcuda.so.1 cannot be loaded: install the driver"),
        (_no_device, "the NVIDIA driver finds no GPU (cuInit: CUDA_ERROR_NO_DEVICE (100))"),
    ],
    ids=["no-driver", "no-device"],
)
def test_what_is_missing_is_said_in_one_line_and_the_exit_code_is_5(
    tmp_path: Path, command: str, machine: object, missing: str
) -> None:
    assert callable(machine)
    (tmp_path / "driver").mkdir()
    cascade = write_tiny_cascade(tmp_path / "cascade")
    done = millwatch(COMMANDS[command], cascade, machine(tmp_path / "driver"))
    assert done.returncode == 5, done.stderr
    told = [line for line in (done.stdout + done.stderr).splitlines() if missing in line]
    assert told
    assert all(line.rstrip().endswith("or set engine.backend: openvino") for line in told)
    assert "Traceback" not in done.stderr
    if command != "check":
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("backend", ["auto", "openvino"])
def test_without_a_gpu_nothing_of_it_is_imported(tmp_path: Path, backend: str) -> None:
    """Checked to the end, with engines built, opened and run."""
    cascade = write_tiny_cascade(tmp_path / "cascade")
    program = (
        "import sys\n"
        "from daemon.cli import main\n"
        "from engines.tensorrt import device\n"
        "device.driver_present = lambda: False\n"
        "for command in ['build-engines'], ['check', '--offline']:\n"
        "    sys.argv[1:] = [*command, *SETTINGS]\n"
        "    try:\n"
        "        main()\n"
        "    except SystemExit as end:\n"
        "        assert not end.code, end.code\n"
        "print(*sys.modules)\n"
    )
    settings = ["--set", f"cascade={cascade}", "--set", f"engine.directory={tmp_path / 'engines'}"]
    settings += ["--set", f"engine.backend={backend}"]
    done = subprocess.run(
        [sys.executable, "-c", program.replace("SETTINGS", repr(settings))],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    loaded = {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert "openvino" in loaded
    assert loaded.isdisjoint({"tensorrt", "tensorrt_bindings", "pycuda", "cuda", "onnx", "nvidia"})
    imported = {name for name in done.stdout.splitlines()[-1].split() if name.startswith("engines.tensorrt.")}
    assert imported <= {"engines.tensorrt.device"}
