"""``python -m tests.engines.tensorrt.half_report``: the shipped stages in half arithmetic, as a table for the docs.

On the frames on which the builder compares engines, and on the real frames where MILLWATCH_DATA names them.
"""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import onnx

from engines.comparison_frames import read_comparison_frames
from engines.definition import load_definition
from engines.images import Frame
from engines.reference import ReferenceAnswers
from engines.sizes import to_input
from engines.tensorrt.half import to_half
from tests.support.half_arithmetic import HalfSlot

CASCADE = Path(__file__).parents[3] / "cascades" / "reference"


def main() -> None:
    definition = load_definition(CASCADE)
    given: dict[str, list[Frame]] = {"recorded": list(read_comparison_frames(definition, bit_depth=16).frames)}
    if data := os.environ.get("MILLWATCH_DATA"):
        paths = sorted((Path(data) / "severstal_frames" / "images").iterdir())
        images = [np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)) for path in paths]
        given["real"] = [to_input(image, definition.input) for image in images]
    print("| stage | frames | score off by | verdicts flipped | mask flipped | Dice | largest value | largest sum |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for stage in definition.stages:
        half = to_half(onnx.load(stage.model))
        for name, frames in given.items():
            slot = HalfSlot(half)
            found = ReferenceAnswers(stage, definition, frames).compare(slot, batch_size=1)
            figures = (
                (found.max_score_difference, ".5f"),
                (found.verdicts_flipped, "d"),
                (found.max_flipped_share, ".4%"),
                (found.min_dice, ".4f"),
                (float(slot.largest.max()), ".0f"),
                (float(slot.largest_sums.max()), ".0f"),
            )
            told = ("" if value is None else format(value, form) for value, form in figures)
            print(f"| {stage.key} | {found.frames} {name} |", " | ".join(told), "|")


if __name__ == "__main__":
    main()
