"""``python -m tests.faults.failing_engines run ...``: the service with engines that fail, as a device would.

It is the service itself but for one class: before the first stage of a batch, the processor's slot

* fails for good, once the process has been sent SIGUSR1: every call raises DeviceError from then on;
* fails for a batch that holds a poisoned frame (:data:`tests.faults.ledger.POISON_GREY` in its corner), so that in the
  end that frame alone is dead;
* fails for one batch in ten of those with more than one frame, by chance: halved, they succeed.
"""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any

from daemon.cli import main
from engines.backend import Index, Scores
from engines.errors import DeviceError, InferenceError
from engines.images import Frame
from engines.openvino.runtime import OpenVINOSlot
from tests.faults.ledger import POISON_GREY, POISON_SIDE

BATCHES_THAT_FAIL = 0.1

SEED = 5

_dead = threading.Event()
_chance = random.Random(SEED)
_load, _gate = OpenVINOSlot.load, OpenVINOSlot.gate


def _load_and_look(slot: Any, frames: Sequence[Frame]) -> None:
    slot.poisoned = any((frame[:POISON_SIDE, :POISON_SIDE] == POISON_GREY).all() for frame in frames)
    _load(slot, frames)


def _gate_or_fail(slot: Any, index: Index) -> Scores:
    if _dead.is_set():
        raise DeviceError("the device does not answer: it was told to fail")
    if slot.poisoned:
        raise InferenceError("gate: inference failed: a poisoned frame")
    if len(index) > 1 and _chance.random() < BATCHES_THAT_FAIL:
        raise InferenceError("gate: inference failed: by chance")
    return _gate(slot, index)


def _fail_for_good(_number: int, _frame: FrameType | None) -> None:
    _dead.set()


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, _fail_for_good)
    OpenVINOSlot.load = _load_and_look  # type: ignore[method-assign]
    OpenVINOSlot.gate = _gate_or_fail  # type: ignore[method-assign]
    main()
