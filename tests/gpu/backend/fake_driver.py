"""Compiles and loads the fake driver, and turns its switches (see ``fake_driver.cpp``)."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import subprocess
from collections import Counter
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).with_name("fake_driver.cpp")
BUILD = Path(__file__).parents[3] / "build" / "fake-driver"

LAUNCH_FAILED = 719
INVALID_VALUE = 1

PLENTY = 8 << 30


@dataclass(frozen=True)
class Counts:
    """What the code under test holds of the fake driver."""

    device_pieces: int
    device_bytes: int
    host_pieces: int
    host_bytes: int
    streams: int
    events: int
    graphs: int
    executable_graphs: int
    retained_contexts: int
    current_contexts: int
    abandoned_work: int
    allocations: int

    @property
    def held(self) -> tuple[int, ...]:
        """Everything that must be given back or waited for, in order of the fields."""
        return astuple(self)[:-1]


class FakeDriver:
    """The loaded library."""

    def __init__(self, path: Path) -> None:
        self.folder = path.parent
        # PyCUDA and NVIDIA's bindings ask for libcuda.so.1, and are given what bears that name already.
        self.library = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
        self.library.fakeMemory.restype = ctypes.c_void_p
        self.library.fakeMemory.argtypes = [ctypes.c_uint64, ctypes.c_size_t]
        self.library.fakeCapacity.argtypes = [ctypes.c_uint64, ctypes.c_uint64]
        self.library.fakeCalls.restype = ctypes.c_size_t
        self.library.fakeFail.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int]
        self.library.fakeFailWork.argtypes = [ctypes.c_long, ctypes.c_int]

    def reset(self) -> None:
        """As in a new process."""
        self.library.fakeReset()

    def fail(self, call: str, number: int = 1, code: int = INVALID_VALUE, *, lasts: bool = False) -> None:
        """The call of this name that comes as the ``number``-th from now on fails, and all later ones if it lasts."""
        self.library.fakeFail(call.encode(), number, code, lasts)

    def fail_work(self, number: int = 1, code: int = LAUNCH_FAILED) -> None:
        """The piece of work that runs as the ``number``-th from now on fails: the device is lost."""
        self.library.fakeFailWork(number, code)

    def fault(self, code: int = LAUNCH_FAILED) -> None:
        """Told by work that runs: the device is lost."""
        self.library.fakeFault(code)

    def limit(self, *, device: int = PLENTY, host: int = PLENTY) -> None:
        """Bytes of memory that the device has, and that the host may lock."""
        self.library.fakeCapacity(device, host)

    def memory(self, address: int, size: int) -> int | None:
        """Where device memory really lies; None where it is not all of one allocation."""
        found: int | None = self.library.fakeMemory(address, size)
        return found

    def counts(self) -> Counts:
        """What is held now."""
        values = (ctypes.c_long * 12)()
        self.library.fakeCount(values)
        return Counts(*values)

    def calls(self) -> Counter[str]:
        """How often each call came since the reset."""
        text = ctypes.create_string_buffer(1 << 16)
        assert self.library.fakeCalls(text, len(text)) < len(text)
        lines = (line.split() for line in text.value.decode().splitlines())
        return Counter({name: int(count) for name, count in lines})


@cache
def load_fake_driver() -> FakeDriver:
    """Compile the fake driver where it is older than its source, and load it into this process."""
    path = BUILD / "libcuda.so.1"
    if not path.exists() or path.stat().st_mtime < SOURCE.stat().st_mtime:
        _compile(path)
    return FakeDriver(path)


def _compile(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    compiler, symbols = shutil.which("g++"), shutil.which("nm")
    assert compiler is not None, "the fake driver is compiled with g++"
    assert symbols is not None, "nm comes with g++"
    object_file = path.with_suffix(".o")
    flags = ["-std=c++17", "-O1", "-fPIC", "-Wall", "-Wextra", "-Werror"]
    command = [compiler, *flags, "-I", _include_folder(), "-c", SOURCE, "-o", object_file]
    subprocess.run(command, check=True, timeout=100)
    listed = subprocess.run([symbols, "--defined-only", object_file], check=True, capture_output=True, text=True)
    defined = {line.split()[-1] for line in listed.stdout.splitlines()}
    # PyCUDA does not load without the many calls that nothing here makes: those say that they are not supported.
    rest = path.with_name("not_supported.cpp")
    missing = sorted(_pycuda_s_calls(symbols) - defined)
    lines = [f'extern "C" int {name}() {{ return 801; }}' for name in missing]
    rest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    built = path.with_suffix(".new")
    link = [compiler, "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", built, object_file, rest]
    subprocess.run(link, check=True, timeout=100)
    built.replace(path)


def _include_folder() -> Path:
    found = importlib.util.find_spec("nvidia")
    assert found is not None
    assert found.submodule_search_locations is not None
    for folder in found.submodule_search_locations:
        for header in Path(folder).glob("cu*/include/cuda.h"):
            return header.parent
    raise AssertionError("no cuda.h: requirements/gpu-test.txt is not installed")


def _pycuda_s_calls(symbols: str) -> set[str]:
    found = importlib.util.find_spec("pycuda._driver")
    assert found is not None
    assert found.origin is not None
    command = [symbols, "-D", "--undefined-only", found.origin]
    listed = subprocess.run(command, check=True, capture_output=True, text=True)
    names = {line.split()[-1] for line in listed.stdout.splitlines()}
    return {name for name in names if name.startswith("cu") and name[2:3].isupper()}
