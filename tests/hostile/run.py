"""The whole corpus of hostile frames through the decoder, each kind in a process of its own.

``python -m tests.hostile.run --count 10000`` prints a table, ``--json FILE`` writes the figures as well. A process that
dies counts as a crash of the frame that it was at, and a new one goes on behind it.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from engines.errors import FrameRejectedError
from tests.hostile.messages import DECODE, LIMITS, Message, good_frames
from tests.hostile.mutations import KINDS, REFUSED, mutated

MEMORY_BAR_MIB = 50
"""What refusing a decompression bomb may take at most."""

BOMBS = frozenset({"png-bomb", "tiff-bomb", "bmp-bomb", "jpeg-bomb"})


@dataclass
class Figures:
    """What became of the frames of one kind. ``memory_mib`` is the most that one of them took while it was looked at,
    ``kept_mib`` by how much the process is larger in the end."""

    kind: str
    frames: int = 0
    decoded: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    crashed: int = 0
    faults: list[str] = field(default_factory=list)
    memory_mib: float = 0.0
    kept_mib: float = 0.0
    slowest_ms: float = 0.0
    seconds: float = 0.0

    @property
    def balances(self) -> bool:
        return self.frames == self.decoded + sum(self.rejected.values()) + self.crashed

    @property
    def good(self) -> bool:
        bomb = self.kind in BOMBS
        return self.balances and not self.crashed and not self.faults and (not bomb or self.memory_mib < MEMORY_BAR_MIB)


def outcome(kind: str, message: Message) -> tuple[str, str]:
    """``decoded`` or the reason of the rejection, and what is wrong with that, if anything is."""
    try:
        image = DECODE(message.frame())
    except FrameRejectedError as error:
        allowed = REFUSED.get(kind)
        if not error.reason or not str(error):
            return error.reason, "rejected without a reason"
        return error.reason, "" if allowed is None or error.reason in allowed else f"refused as {error.reason}"
    if message.checksum_fails:
        return "decoded", "decoded although its checksum fails"
    if kind in REFUSED:
        return "decoded", "decoded"
    if image.ndim != 2 or image.dtype != "uint8" or not LIMITS.min_pixels <= image.size <= LIMITS.max_pixels:
        return "decoded", f"decoded to {image.dtype} {image.shape}"
    return "decoded", ""


def memory_mib(name: str) -> float:
    """``VmRSS`` or ``VmHWM``, its highest, of this process."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(rf"{name}:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


def judge(kind: str, numbers: Sequence[int], at: Path | None = None) -> Figures:
    """Decode frames of a kind in this process, and write the number of each into ``at`` before."""
    figures = Figures(kind)
    for message in good_frames().values():
        DECODE(message.frame())
    mutated(kind, 0)  # Whatever the mutations keep is made now.
    first, started = memory_mib("VmRSS"), time.perf_counter()
    for number in numbers:
        message = mutated(kind, number)
        if at is not None:
            at.write_text(f"{number} {json.dumps(asdict(figures))}", encoding="utf-8")
        # 5 resets the highest resident size, see proc_pid_clear_refs(5).
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before, begin = memory_mib("VmRSS"), time.perf_counter()
        name, fault = outcome(kind, message)
        figures.slowest_ms = max(figures.slowest_ms, 1e3 * (time.perf_counter() - begin))
        figures.memory_mib = max(figures.memory_mib, memory_mib("VmHWM") - before)
        figures.frames += 1
        if name == "decoded":
            figures.decoded += 1
        else:
            figures.rejected[name] = figures.rejected.get(name, 0) + 1
        if fault:
            figures.faults.append(f"{kind} {number}: {fault}")
    figures.seconds = time.perf_counter() - started
    figures.kept_mib = memory_mib("VmRSS") - first
    return figures


def judge_apart(kind: str, count: int, folder: Path) -> Figures:
    """The same in processes of their own, one more for each that dies."""
    total, first, at = Figures(kind), 0, folder / kind
    while first < count:
        command = [sys.executable, "-m", "tests.hostile.run", "--worker", kind, str(first), str(count), str(at)]
        at.unlink(missing_ok=True)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            part, first = json.loads(done.stdout), count
        elif not at.exists():
            raise RuntimeError(f"the process for {kind} ended before its first frame: {done.stderr.strip()[-300:]}")
        else:
            number, _, figures = at.read_text(encoding="utf-8").partition(" ")
            part, first = json.loads(figures), int(number) + 1
            part["frames"] += 1
            part["crashed"] += 1
            part["faults"].append(f"{kind} {number}: exit {done.returncode}: {done.stderr.strip()[-300:]}")
        total.frames += part["frames"]
        total.decoded += part["decoded"]
        total.rejected = dict(Counter(total.rejected) + Counter(part["rejected"]))
        total.crashed += part["crashed"]
        total.faults += part["faults"]
        total.memory_mib = max(total.memory_mib, part["memory_mib"])
        total.kept_mib = max(total.kept_mib, part["kept_mib"])
        total.slowest_ms = max(total.slowest_ms, part["slowest_ms"])
        total.seconds += part["seconds"]
    return total


def _finished(file: Path | None, count: int) -> dict[str, Figures]:
    """The kinds that an earlier run has judged in full, from its figures."""
    if file is None or not file.exists():
        return {}
    known = [Figures(**figures) for figures in json.loads(file.read_text(encoding="utf-8"))]
    return {figures.kind: figures for figures in known if figures.frames == count and figures.kind in KINDS}


def row(figures: Figures) -> str:
    reasons = ", ".join(f"{name} {number:,}" for name, number in sorted(figures.rejected.items())) or "-"
    return (
        f"| {figures.kind} | {figures.frames:,} | {figures.decoded:,} | {reasons} | {figures.crashed} "
        f"| {figures.memory_mib:.1f} | {figures.kept_mib:.1f} | {figures.slowest_ms:.1f} | {figures.seconds:.1f} |"
    )


def main(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["--worker"]:
        kind, first, count, at = arguments[1:]
        print(json.dumps(asdict(judge(kind, range(int(first), int(count)), Path(at)))))
        return 0
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="frames of each kind")
    parser.add_argument(
        "--json", type=Path, help="where the figures go; kinds that it has at this count are not judged again"
    )
    parser.add_argument("--kind", choices=list(KINDS), action="append", help="only these kinds")
    options = parser.parse_args(arguments)
    known = _finished(options.json, options.count)
    print("| kind | frames | decoded | rejected | crashed | memory, MiB | kept, MiB | slowest, ms | s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        results = []
        for kind in options.kind or KINDS:
            results.append(known.get(kind) or judge_apart(kind, options.count, Path(folder)))
            print(row(results[-1]), flush=True)
            if options.json:
                known[kind] = results[-1]
                text = json.dumps([asdict(figures) for figures in known.values()], indent=1)
                options.json.write_text(text, encoding="utf-8")
    for figures in results:
        for fault in figures.faults[:5]:
            print(f"FAULT {fault}", file=sys.stderr)
    return 0 if all(figures.good for figures in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
