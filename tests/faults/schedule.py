"""What goes wrong when: a pure function of a scenario, its length and a seed.

A fault begins once the stream has come as far as ``after_frames`` and ``after_s`` have passed since the one before it
began (since the start, for the first). It lasts ``hold_s``; one without a length is over as soon as it is done.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

FaultKind = Literal[
    "kill",
    "end",
    "freeze",
    "device-failure",
    "broker-restart",
    "broker-kill",
    "broker-pause",
    "network-cut",
    "full-disk",
    "stalled-consumer",
]

SESSION_S = 6.0
"""The group's session in every scenario: the shortest that Kafka allows, so that a freeze need not last long."""

GROUP_EVERY_S = 5.0
"""Time between two faults of a group."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong. ``instance``, from 0, is who is hit, where it is an instance."""

    kind: FaultKind
    after_frames: int = 0
    after_s: float = 0.0
    hold_s: float = 0.0
    instance: int = 0


def kills(seed: int, count: int, frames: int) -> list[Fault]:
    """``count`` kills spread over the stream. One in five follows hard upon another, so that it hits an instance that
    is loading its engines, joining the group or taking over what its predecessor left open."""
    chance = random.Random(f"kills {seed}")
    # Even steps with a jitter of half a step: the last kill has some of the stream still before it.
    at = [round(frames * (number + chance.uniform(0.25, 0.75)) / (count + 1)) for number in range(1, count + 1)]
    faults = []
    for number, frame in enumerate(at):
        follows = number > 0 and chance.random() < 0.2
        frame = at[number - 1] if follows else frame
        faults.append(Fault("kill", frame, chance.uniform(0.2, 3.0) if follows else chance.uniform(0.0, 0.5)))
        at[number] = frame
    return faults


def group(seed: int, instances: int, seconds: float) -> list[Fault]:
    """Every five seconds one instance is killed, ended or frozen past its session; never one that is frozen already."""
    chance = random.Random(f"group {seed}")
    frozen_until = [0.0] * instances
    kinds: list[FaultKind] = []
    faults: list[Fault] = []
    for number in range(1, int(seconds / GROUP_EVERY_S) + 1):
        now = number * GROUP_EVERY_S
        # The three kinds in an order of chance, over and over: a short run has each of them, too.
        if not kinds:
            kinds = ["kill", "end", "freeze"]
            chance.shuffle(kinds)
        kind = kinds.pop()
        instance = chance.choice([each for each in range(instances) if frozen_until[each] < now])
        hold_s = round(SESSION_S + chance.uniform(1.0, 7.0), 1) if kind == "freeze" else 0.0
        frozen_until[instance] = now + hold_s
        faults.append(Fault(kind, 0, GROUP_EVERY_S, hold_s, instance))
    return faults


def broker_restarts(seed: int, count: int, frames: int) -> list[Fault]:
    """Restarts of the broker, half of them in order and half as a crash; it is away for up to five seconds."""
    chance = random.Random(f"broker-restarts {seed}")
    kinds: list[FaultKind] = ["broker-restart", "broker-kill"]
    return [
        Fault(kinds[(number + seed) % 2], after, chance.uniform(0.0, 1.0), chance.uniform(0.0, 5.0))
        for number, after in enumerate(_spread(frames, count))
    ]


def pauses(kind: FaultKind, seed: int, count: int, frames: int, longest_s: float) -> list[Fault]:
    """Faults of one kind that last between half a second and ``longest_s``, the longest at least once."""
    chance = random.Random(f"{kind} {seed}")
    holds = [longest_s, *(round(chance.uniform(0.5, longest_s), 1) for _ in range(count - 1))]
    chance.shuffle(holds)
    return [
        Fault(kind, after, chance.uniform(0.0, 1.0), hold_s)
        for after, hold_s in zip(_spread(frames, count), holds, strict=True)
    ]


def device_failures(seed: int, count: int, frames: int) -> list[Fault]:
    """The device stops answering; a new process gets it back."""
    chance = random.Random(f"device-failures {seed}")
    return [Fault("device-failure", after, chance.uniform(0.0, 1.0)) for after in _spread(frames, count)]


def _spread(frames: int, count: int) -> list[int]:
    return [round(frames * number / (count + 1)) for number in range(1, count + 1)]
