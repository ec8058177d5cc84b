"""Coverage-guided fuzzing of header parsing and message decoding: ``python -m tests.hostile.fuzz --seconds 60``.

A loop of our own over ``sys.settrace``: an input that runs a line after another line as no input did before joins the
corpus, from which the next ones are made. Atheris is 35 MB and follows Python's bytecode versions late, and HypoFuzz
brings a web application along; what is fuzzed here is a few hundred lines of Python in front of OpenCV.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import random
import struct
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

from daemon import decoding, frames
from engines import image_headers, images
from engines.errors import FrameRejectedError
from tests.hostile.messages import Message, good_frames
from tests.hostile.mutations import KINDS, mutated
from tests.hostile.run import memory_mib

LIMITS = images.ImageLimits(min_pixels=1, max_pixels=1_048_576, max_bytes=1_048_576)
SLOWEST_S = 5.0
"""For one input, traced, on a busy machine; without both it is some milliseconds."""
MEMORY_MIB = 100
"""For the whole run: the corpus, and a frame of 1,048,576 pixels in four channels of 16 bits on its way to grey."""

HEADERS = ("content-type", "width", "height", "crc32c", "captured-at", "frame-id", "coil-id", "position-mm")
TEXTS = (
    b"application/x-gray8",
    b"160",
    b"64",
    b"1e999",
    b"nan",
    b"2026-11-23T01:00:00Z",
    b"0001-01-01T00:00:00+23:59",
    b"9999-12-31T23:59:59-23:59",
    b"\xff",
    b"",
    "\u0661".encode(),
)
NUMBERS = (0, 1, 2, 4, 8, 16, 64, 127, 128, 255, 256, 4096, 32_767, 65_535, 2**31 - 1, 2**31, 2**32 - 1, 2**63)

Edge = tuple[object, int, int]


class BrokenPromiseError(Exception):
    """What was promised of every message does not hold of this one."""


@dataclass
class Findings:
    """What a run of the loop saw."""

    inputs: int = 0
    seeds: int = 0
    corpus: int = 0
    edges: int = 0
    decoded: int = 0
    slowest_s: float = 0.0
    growth_mib: float = 0.0
    faults: dict[str, Message] = field(default_factory=dict)


def traced(call: Callable[[], None], seen: set[Edge]) -> None:
    """Call it and add to ``seen`` each step from line to line within the modules that are fuzzed."""
    files = {str(module.__file__) for module in (image_headers, images, frames, decoding)}
    last: dict[int, int] = {}

    def lines(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            seen.add((frame.f_code, last.get(id(frame), 0), frame.f_lineno))
            last[id(frame)] = frame.f_lineno
        return lines

    def calls(frame: FrameType, _event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        last[id(frame)] = 0
        return lines

    before = sys.gettrace()
    sys.settrace(calls)
    try:
        call()
    finally:
        sys.settrace(before)


def _require(holds: bool, fault: str) -> None:
    if not holds:
        raise BrokenPromiseError(fault)


def check(message: Message) -> bool:
    """Whether the message is decoded. Raises BrokenPromiseError, or any error that is not documented."""
    record = SimpleNamespace(topic="frames", partition=0, offset=0, timestamp=0, key=message.value[:9])
    record.value, record.headers = message.value, list(message.headers)
    frame = frames.frame_of(record)
    header = None
    try:
        header = image_headers.read_header(message.value)
    except FrameRejectedError as error:
        _require(error.reason in {"empty", "unknown-format", "truncated", "undecodable"}, f"a header is {error.reason}")
    try:
        image = decoding.frame_decoder(LIMITS, require_crc32c=False)(frame)
    except FrameRejectedError as error:
        _require(error.reason != "", "a rejection without its reason")
        _require("\n" not in str(error), "a detail of several lines")
        return False
    _require(not message.checksum_fails, "decoded although its checksum fails")
    _require(LIMITS.min_pixels <= image.size <= LIMITS.max_pixels, f"decoded to {image.shape}")
    raw = (frame.meta.header("content-type") or b"").decode(errors="replace")
    if raw.partition(";")[0].strip().lower() != images.RAW_GREY:
        size = (header.height, header.width) if header else None
        _require(image.shape == size, f"{header} became {image.shape}")
    return True


def changed(chance: random.Random, message: Message, other: Message) -> Message:
    """One to four small changes of the value, and now and then of the headers."""
    value = bytearray(message.value)
    for _ in range(chance.randint(1, 4)):
        # Headers are at the start of most formats, and at the end of OpenCV's TIFF.
        length = len(value)
        at = chance.choice([chance.randrange(min(length, 64) + 1), chance.randrange(length + 1), max(0, length - 200)])
        at += chance.randrange(200) if at == length - 200 else 0
        form = chance.choice(["B", ">H", "<H", ">I", "<I", "<Q"])
        size = struct.calcsize(form)
        match chance.randrange(6):
            case 0 if at < length:
                value[at] ^= 1 << chance.randrange(8)
            case 1:
                value[at : at + size] = struct.pack(form, chance.choice(NUMBERS) % 256**size)
            case 2:
                del value[at : at + chance.randint(1, 64)]
            case 3:
                value[at:at] = chance.randbytes(chance.randint(1, 16))
            case 4:
                start = chance.randrange(len(other.value) + 1)
                value[at : at + 32] = other.value[start : start + 32]
            case _:
                value[at:at] = value[at : at + chance.randint(1, 64)]
    headers = list(message.headers)
    if chance.random() < 0.2:
        headers.append((chance.choice(HEADERS), chance.choice([*TEXTS, chance.randbytes(8)])))
    return Message(bytes(value[: 2 * LIMITS.max_bytes]), tuple(headers[-8:]))


def fuzz(seconds: float, seed: int) -> Findings:
    """Run the loop for ``seconds``; equal seeds make equal inputs in equal order."""
    chance, seen, found = random.Random(seed), set[Edge](), Findings()
    # Of every kind a few; the ones of megabytes would only slow the loop down.
    seeds = [*good_frames().values(), *(mutated(kind, number) for kind in KINDS for number in range(3))]
    corpus = [message for message in seeds if len(message.value) <= 100_000]
    waiting, found.seeds = list(corpus), len(corpus)
    before, end = memory_mib("VmRSS"), time.monotonic() + seconds
    while time.monotonic() < end:
        message = waiting.pop() if waiting else changed(chance, chance.choice(corpus), chance.choice(corpus))
        known, begin = len(seen), time.perf_counter()
        decoded: list[bool] = []
        try:
            traced(lambda message=message, decoded=decoded: decoded.append(check(message)), seen)  # type: ignore[misc]
        except Exception as error:  # noqa: BLE001  any error that is not documented is what this looks for
            found.faults.setdefault(f"{type(error).__name__}: {error}"[:200], message)
        took = time.perf_counter() - begin
        found.slowest_s = max(found.slowest_s, took)
        if took > SLOWEST_S:
            found.faults.setdefault(f"took {took:.1f} s", message)
        found.inputs += 1
        found.decoded += decoded == [True]
        if len(seen) > known and len(message.value) <= 100_000:
            corpus.append(message)
    found.corpus, found.edges = len(corpus), len(seen)
    found.growth_mib = memory_mib("VmHWM") - before
    if found.growth_mib > MEMORY_MIB:
        found.faults[f"memory grew by {found.growth_mib:.0f} MiB"] = Message(b"")
    return found


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    # libjpeg and libpng have a line for many an input.
    errors = os.dup(2)
    with Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), 2)
    faulthandler.enable(errors)
    try:
        found = fuzz(options.seconds, options.seed)
    finally:
        os.dup2(errors, 2)
        faulthandler.disable()
        os.close(errors)
    print(
        f"{found.inputs:,} inputs in {options.seconds:.0f} s (seed {options.seed}), {found.decoded:,} decoded, "
        f"{len(found.faults)} faults; "
        f"{found.edges} steps from line to line, corpus {found.seeds} to {found.corpus}, "
        f"slowest {1e3 * found.slowest_s:.0f} ms, memory +{found.growth_mib:.0f} MiB"
    )
    for fault, message in found.faults.items():
        print(f"FAULT {fault}\n  value {message.value[:400]!r}\n  headers {message.headers!r}", file=sys.stderr)
    return 1 if found.faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
