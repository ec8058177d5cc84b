"""What a cascade finds, misses and invents: ``python -m training.evaluate --help``.

Every figure comes from the exported graphs, run in OpenVINO in float32 one frame at a time with the thresholds of
``cascade.yaml``, one entry per connected region. Generated frames are drawn like those of the demonstration recording,
from a seed of their own. Where MILLWATCH_DATA names a folder with real Severstal frames and their labels, the gate and
the classes are judged on them too; that result chooses nothing.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.definition import CascadeDefinition, load_definition
from engines.errors import MillwatchError, UsageError
from engines.openvino.reference import ReferenceStage
from training.model_card import write_card
from training.recording import labelled_frames
from training.regions import Tally, large_regions, tally

DATA_VARIABLE = "MILLWATCH_DATA"
EXAMPLE = "example: python -m training.evaluate --cascade cascades/reference --frames 400"
RESAMPLES = 2000

Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the cascade says of a frame: gate score, class scores and masks (None where a stage was not asked)."""

    gate: float
    passed: bool
    classes: tuple[float, ...] | None
    masks: tuple[Image | None, ...]


class Judge:
    """The cascade of a folder, stage by stage, without any engine."""

    def __init__(self, definition: CascadeDefinition) -> None:
        self.definition = definition
        self._gate, self._classifier, *self._segmenters = (
            ReferenceStage(stage, definition) for stage in definition.stages
        )

    def inspect(self, frame: Image) -> Verdict:
        """Inspect a frame, uint8 ``[256, 1600]``; masks are uint8 0/1 of the same shape."""
        gate = float(self._gate.scores(frame))
        passed = gate >= self.definition.gate.threshold
        nothing: list[Image | None] = [None] * len(self.definition.classes)
        if not passed:
            return Verdict(gate, passed, None, tuple(nothing))
        scores = tuple(float(score) for score in self._classifier.scores(frame))
        masks = nothing
        for index, item in enumerate(self.definition.classes):
            if scores[index] >= item.threshold:
                mask = large_regions(self._segmenters[index].mask(frame, item.mask_threshold).T, item.min_area_px)
                masks[index] = mask if mask.any() else None
        return Verdict(gate, passed, scores, tuple(masks))


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate",
        description="Judge a cascade on generated and real frames; writes evaluation.json and MODEL_CARD.md into it.",
        epilog=EXAMPLE,
    )
    parser.add_argument("--cascade", type=Path, required=True, help="cascade folder")
    parser.add_argument("--frames", type=int, default=400, help="generated frames, half of them defective")
    parser.add_argument("--seed", type=int, default=1001, help="of the generated frames")
    parser.add_argument(
        "--looks",
        type=int,
        default=1,
        help="how often the real frames have been scored by a candidate, this time included",
    )
    options = parser.parse_args(arguments)
    try:
        definition = load_definition(options.cascade)
        judge = Judge(definition)
        result: dict[str, Any] = {
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "machine": machine(),
            "cascade": {"name": definition.name, "version": definition.version, "hash": definition.hash()},
            "generated": judge_generated(judge, options.seed, options.frames),
        }
        if data := os.environ.get(DATA_VARIABLE):
            result["real"] = {**judge_real(judge, Path(data)), "looks": options.looks}
        text = json.dumps(result, indent=1)
        (options.cascade / "evaluation.json").write_text(text + "\n", encoding="utf-8")
        write_card(options.cascade, definition, result)
    except MillwatchError as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return error.exit_code
    print(text)
    return 0


def judge_generated(judge: Judge, seed: int, frames: int) -> dict[str, Any]:
    """Gate and regions on generated frames, half of them defective.

    Dice is foreground Dice through the whole cascade: the mean over frames that carry the class, 0 where it was missed.
    """
    classes = judge.definition.classes
    tallies = [Tally() for _ in classes]
    dice: list[list[float]] = [[] for _ in classes]
    scores, truth, passed = [], [], []
    for labelled in labelled_frames(seed, frames, frames // 2):
        picture = labelled.record.value
        assert picture is not None
        image = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_GRAYSCALE)
        verdict = judge.inspect(np.asarray(image, np.uint8))
        scores.append(verdict.gate)
        passed.append(verdict.passed)
        truth.append(bool(labelled.strip.classes))
        for index, true in enumerate(labelled.strip.masks):
            mask = verdict.masks[index]
            found = np.zeros_like(true) if mask is None else mask
            tallies[index] += tally(found, true)
            if true.any():
                dice[index].append(2 * int((found & true).sum()) / int(found.sum() + true.sum()))
    return {
        "seed": seed,
        "gate": _gate_figures(np.array(scores), np.array(truth), np.array(passed)),
        "classes": [
            {"id": item.id, "name": item.name, "frames": len(dice[index]), "dice": _mean(dice[index]), **asdict(sums)}
            for index, (item, sums) in enumerate(zip(classes, tallies, strict=True))
        ],
        "total": asdict(sum(tallies, Tally())),
    }


def judge_real(judge: Judge, data: Path) -> dict[str, Any]:
    """The gate's AUROC and, per class, frames on which it was found, missed and wrongly seen.

    A class counts as seen on a frame where the cascade draws a mask of it.
    """
    scores, truth, passed = [], [], []
    counts = [dict.fromkeys(("carried", "found", "missed", "wrongly_seen"), 0) for _ in judge.definition.classes]
    for image, carried in _real_frames(data):
        verdict = judge.inspect(image)
        scores.append(verdict.gate)
        passed.append(verdict.passed)
        truth.append(any(carried))
        for index, count in enumerate(counts):
            seen = verdict.masks[index] is not None
            count["carried"] += carried[index]
            count["found"] += carried[index] and seen
            count["missed"] += carried[index] and not seen
            count["wrongly_seen"] += seen and not carried[index]
    return {
        "gate": _gate_figures(np.array(scores), np.array(truth), np.array(passed)),
        "classes": [{"id": item.id, **count} for item, count in zip(judge.definition.classes, counts, strict=True)],
    }


def auroc(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Area under the receiver operating characteristic: how often a positive scores above a negative, ties half."""
    above = scores[positive][:, None] - scores[~positive][None]
    return float((above > 0).mean() + (above == 0).mean() / 2)


def auroc_interval(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> tuple[float, float]:
    """The 90 % interval of the AUROC by bootstrap, positives and negatives resampled apart; always the same draws."""
    rng = np.random.default_rng(0)
    high, low = scores[positive], scores[~positive]
    kinds = np.repeat([True, False], [len(high), len(low)])
    values = [
        auroc(np.concatenate((rng.choice(high, len(high)), rng.choice(low, len(low)))), kinds) for _ in range(RESAMPLES)
    ]
    lower, upper = np.quantile(values, (0.05, 0.95))
    return float(lower), float(upper)


def machine() -> str:
    """The processor's name and the number of cores, for whoever compares figures."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def _gate_figures(
    scores: NDArray[np.float64], defective: NDArray[np.bool_], passed: NDArray[np.bool_]
) -> dict[str, Any]:
    lower, upper = auroc_interval(scores, defective)
    return {
        "defective": int(defective.sum()),
        "defective_passed": int((defective & passed).sum()),
        "clean": int((~defective).sum()),
        "clean_passed": int((~defective & passed).sum()),
        "auroc": round(auroc(scores, defective), 4),
        "auroc_90": [round(lower, 4), round(upper, 4)],
    }


def _real_frames(data: Path) -> Iterator[tuple[Image, tuple[bool, ...]]]:
    folder = data / "severstal_frames"
    try:
        with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise UsageError(
            f"{folder / 'labels.csv'}: {error.strerror}: {DATA_VARIABLE} must name the data folder"
        ) from None
    for row in rows:
        image = cv2.imread(str(folder / "images" / row["file"]), cv2.IMREAD_GRAYSCALE)
        if image is None:
            raise UsageError(f"{folder / 'images' / row['file']}: cannot be read as an image")
        yield np.asarray(image, np.uint8), tuple(row[f"c{number}"] == "1" for number in range(1, 5))


def _mean(values: list[float]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None


if __name__ == "__main__":
    sys.exit(main())
