from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")

from training.calibrate import class_settings, gate_threshold  # noqa: E402
from training.export import ClassSettings  # noqa: E402
from training.regions import Tally  # noqa: E402


def test_the_gate_keeps_nearly_all_defective_frames() -> None:
    scores = np.linspace(0, 1, 1000, dtype=np.float32)
    defective = np.arange(1000) % 2 == 1
    threshold = gate_threshold(scores, defective)
    assert (scores[defective] < threshold).sum() == 4
    assert gate_threshold(scores[:20], defective[:20]) == scores[1]


@dataclass(frozen=True)
class BrightSquares:
    """Squares of 32 pixels on every second frame are defects of class 1; smaller, brighter ones on all are none."""

    speck: int
    size: int = 4

    def __len__(self) -> int:
        return self.size

    @property
    def cover(self) -> NDArray[np.uint8]:
        cells = (self.masks(number).reshape(4, 16, 16, 100, 16).max(axis=(2, 4)) for number in range(self.size))
        return np.stack(list(cells)) * np.uint8(255)

    def image(self, number: int) -> NDArray[np.uint8]:
        image = np.full((256, 1600), 20, np.uint8)
        image[100 : 100 + self.speck, 40 : 40 + self.speck] = 250
        if number % 2:
            image[32:64, 320:352] = 200
        return image

    def masks(self, number: int) -> NDArray[np.uint8]:
        masks = np.zeros((4, 256, 1600), np.uint8)
        if number % 2:
            masks[0, 32:64, 320:352] = 1
        return masks


class ByBrightness(torch.nn.Module):
    """A pixel's score is its brightness: 200 of 255 gives 0.78."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.logit(x)


def settings_with(scores: Iterable[float], speck: int) -> tuple[ClassSettings, Tally]:
    frames = BrightSquares(speck)
    passed = np.ones(len(frames), np.bool_)
    return class_settings(0, ByBrightness(), frames, passed, np.array(list(scores), np.float32))  # type: ignore[arg-type]


def test_the_least_area_leaves_out_specks_of_frames_without_the_class() -> None:
    settings, result = settings_with([0.9, 0.9, 0.9, 0.9], speck=12)
    assert 144 < settings.min_area_px <= 1024
    assert (result.true, result.found) == (2, 2)


def test_the_class_threshold_parts_carriers_from_others() -> None:
    settings, result = settings_with([0.25, 0.65, 0.25, 0.65], speck=32)
    assert 0.25 < settings.threshold <= 0.65
    assert (result.true, result.found, result.invented) == (2, 2, 2)
