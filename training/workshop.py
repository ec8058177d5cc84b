"""The folder in which a training run keeps its frames, its checkpoints and its progress, and the plan behind them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from engines.errors import UsageError
from training import networks
from training.dataset import CLASSES, GeneratedFrames, Purpose, generate
from training.train import Course

Network = TypeVar("Network", bound=nn.Module)

PROCESSES = 2


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything beside the seed that decides the result."""

    training_frames: int
    validation_frames: int
    gate: Course
    classifier: Course
    joint: Course
    single: Course
    crop_width: int


REFERENCE = Plan(
    training_frames=6000,
    validation_frames=1600,
    gate=Course(2600, 12, 4e-3),
    classifier=Course(2400, 12, 2e-3),
    joint=Course(4000, 16, 4e-3),
    single=Course(1600, 16, 1.5e-3),
    crop_width=384,
)
"""The plan of the reference cascade: 87 minutes on two cores of an Intel Xeon that other work shared, 2026-11-25."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """A work folder and what belongs into it."""

    folder: Path
    plan: Plan
    seed: int

    def open(self, resume: bool) -> None:
        """Begin here, or go on; raises :class:`UsageError` where the folder holds a run of another kind."""
        note = self.folder / "plan.json"
        mine = json.dumps({"seed": self.seed, **asdict(self.plan)}, indent=1)
        if note.exists():
            if not resume:
                raise UsageError(f"{self.folder} holds an earlier run: pass --resume, or name another --work folder")
            if note.read_text(encoding="utf-8") != mine:
                raise UsageError(f"{self.folder} was begun with another seed or plan: name another --work folder")
        self.folder.mkdir(parents=True, exist_ok=True)
        note.write_text(mine, encoding="utf-8")

    def report(self, line: str) -> None:
        """A line of progress, to the terminal and to ``progress.log``."""
        line = f"{datetime.now(UTC):%H:%M:%S}  {line}"
        print(line, flush=True)
        with (self.folder / "progress.log").open("a", encoding="utf-8") as log:
            log.write(line + "\n")

    def frames(self, purpose: Purpose, count: int) -> GeneratedFrames:
        """A generated set, built where it is missing."""

        def report(done: int, total: int) -> None:
            self.report(f"{purpose} frames: {done} of {total} shards")

        return generate(self.folder / "frames", purpose, count, self.seed, PROCESSES, report)

    def has(self, stage: str) -> bool:
        """Whether a stage is trained."""
        return self._checkpoint(stage).exists()

    def save(self, stage: str, network: nn.Module) -> None:
        """Keep a trained stage."""
        part = self._checkpoint(stage).with_suffix(".part")
        torch.save(network.state_dict(), part)
        part.replace(self._checkpoint(stage))

    def gate(self) -> networks.CellScorer:
        """The trained gate."""
        return self._restore("gate", networks.gate())

    def classifier(self) -> networks.Classifier:
        """The trained classifier."""
        return self._restore("classifier", networks.Classifier(networks.Segmenter(CLASSES)))

    def joint(self) -> networks.Segmenter:
        """The segmenter of all classes."""
        return self._restore("joint", networks.Segmenter(CLASSES))

    def segmenter(self, index: int) -> networks.Segmenter:
        """The segmenter of one class, ``index`` 0 to 3."""
        return self._restore(single(index), networks.Segmenter())

    def _checkpoint(self, stage: str) -> Path:
        return self.folder / f"{stage}.pt"

    def _restore(self, stage: str, network: Network) -> Network:
        network.load_state_dict(torch.load(self._checkpoint(stage), weights_only=True))
        return network.eval().to(memory_format=torch.channels_last)


def single(index: int) -> str:
    """The name of the stage of one class, ``index`` 0 to 3."""
    return f"segment-{index + 1}"
