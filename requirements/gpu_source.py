"""Build wheels of what requirements/gpu-source.txt pins, which is published as source only, without a CUDA toolkit.

    python requirements/gpu_source.py build/gpu

Run it in an environment that holds ``requirements/gpu-test.txt``, or at least numpy, setuptools, wheel,
nvidia-cuda-runtime and nvidia-cuda-profiler-api of the releases pinned there, with gcc and g++ on the machine.

PyCUDA's own code needs no nvcc, only ``cuda.h`` and ``cudaProfiler.h``. It is linked against an empty library that
bears the driver's name, so that it uses the driver of the machine on which it is imported. cuRAND is left out: nothing
here makes random numbers on a device.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

LOCK = Path(__file__).with_name("gpu-source.txt")
HEADERS = ("cuda.h", "cudaProfiler.h")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "-qq")
FROM_SOURCE = ("--no-deps", "--no-build-isolation", "--no-binary", ":all:")


def include_folder() -> Path:
    """Where NVIDIA's packages keep their headers. Ends the program where they are missing."""
    found = importlib.util.find_spec("nvidia")
    for folder in (found and found.submodule_search_locations) or ():
        for include in sorted(Path(folder).glob("cu*/include")):
            if all((include / header).is_file() for header in HEADERS):
                return include
    sys.exit("gpu_source: no cuda.h: install nvidia-cuda-runtime and nvidia-cuda-profiler-api first")


def link_stub(folder: Path) -> None:
    """Write an empty library to link against, named like the driver's. Ends the program without a compiler."""
    compiler = shutil.which("gcc")
    if compiler is None or shutil.which("g++") is None:
        sys.exit("gpu_source: no C++ compiler: install gcc and g++")
    empty = folder / "empty.c"
    empty.write_text("", encoding="utf-8")
    command = [compiler, "-shared", "-Wl,-soname,libcuda.so.1", "-o", str(folder / "libcuda.so"), str(empty)]
    subprocess.run(command, check=True)


def configure_pycuda(source: Path, stub: Path) -> None:
    """Write PyCUDA's own configuration file beside its setup script."""
    configuration = {
        "CUDA_INC_DIR": [str(include_folder())],
        "CUDADRV_LIB_DIR": [str(stub)],
        "CUDA_ENABLE_CURAND": False,
    }
    lines = [f"{key} = {value!r}\n" for key, value in configuration.items()]
    (source / "siteconf.py").write_text("".join(lines), encoding="utf-8")


def main(target: Path) -> None:
    """Write the wheels into ``target``, in place of any that are there."""
    shutil.rmtree(target, ignore_errors=True)
    # PyCUDA only hands calls on: what a higher level of optimisation brings is paid for in minutes of compiling.
    # Nothing is found in the empty library, so the linker would otherwise leave out that the driver is needed.
    more = {"CFLAGS": "-O1 -g0", "LDFLAGS": "-Wl,--no-as-needed"}
    environment = os.environ | {name: f"{os.environ.get(name, '')} {flags}" for name, flags in more.items()}
    with TemporaryDirectory() as name:
        scratch = Path(name)
        link_stub(scratch)
        # pip asks each source for its metadata, and PyCUDA's waits ten seconds over its missing configuration there.
        subprocess.run([*PIP, "download", *FROM_SOURCE, "--require-hashes", "-r", LOCK, "-d", scratch], check=True)
        for archive in sorted(scratch.glob("*.tar.gz")):
            with tarfile.open(archive) as packed:
                packed.extractall(scratch, filter="data")
            source = scratch / archive.name.removesuffix(".tar.gz")
            if source.name.startswith("pycuda-"):
                configure_pycuda(source, scratch)
            subprocess.run(
                [*PIP, "wheel", *FROM_SOURCE, "--no-index", "-w", target, source], check=True, env=environment
            )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python requirements/gpu_source.py FOLDER")
    main(Path(sys.argv[1]))
