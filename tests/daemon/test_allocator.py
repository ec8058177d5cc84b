from __future__ import annotations

import subprocess
import sys

import pytest

# A larger block that is freed is what makes glibc keep these; one in ten stays, as those of frames in flight do.
PROGRAM = r"""
import re, sys
import numpy as np
from pathlib import Path
from daemon.allocator import give_large_blocks_back

if sys.argv[1] == "given back" and not give_large_blocks_back():
    sys.exit(77)
np.ones(30_000_000, np.uint8)
blocks = [np.ones(4_100_000, np.uint8) for _ in range(31)]
blocks = blocks[::10]
print(int(re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1000)
"""


def resident_mb(how: str) -> float:
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("this C library does not know the parameter")
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def test_what_fetches_took_does_not_stay_with_the_process() -> None:
    # 31 blocks are 127 MB, the 4 that stay 16.
    assert resident_mb("kept") - resident_mb("given back") > 80
